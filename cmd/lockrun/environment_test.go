package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestReadVariables(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "env")
	for _, tt := range []struct {
		content string
		want    []string
		says    string
	}{
		{"", nil, ""},
		{"A=1", []string{"A=1"}, ""},
		{"A=1\nB=2\n", []string{"A=1", "B=2"}, ""},
		{"# c\n \t# c\n\n \t \n_x9=y\n", []string{"_x9=y"}, ""},
		{"A=\n", []string{"A="}, ""},
		{"A= b \n", []string{"A= b "}, ""},
		{"A=\"b\" 'c' \\n $D #e=f\n", []string{"A=\"b\" 'c' \\n $D #e=f"}, ""},
		{"A=\xff\n", []string{"A=\xff"}, ""},
		{"A=1\nB\n", nil, "line 2: want NAME=VALUE"},
		{"\n\nexport A=1\n", nil, `line 3: "export A" is no name`},
		{" A=1\n", nil, `line 1: " A" is no name`},
		{"A =1\n", nil, `line 1: "A " is no name`},
		{"1A=1\n", nil, `line 1: "1A" is no name`},
		{"=1\n", nil, "line 1: the name is empty"},
		{"A=1\r\n", nil, "line 1: ends with a carriage return"},
		{"A=\x00\n", nil, "line 1: has a NUL byte"},
		{"\ufeffA=1\n", nil, "line 1: "},
		{strings.Repeat("#", maxVariables) + "\n", nil, "longer than 1048576 bytes"},
	} {
		if err := os.WriteFile(path, []byte(tt.content), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := readVariables(path, true)
		if err != nil && (tt.says == "" || err.status != exitUsage || !strings.HasPrefix(err.text, "--env-file "+path+": "+tt.says)) {
			t.Errorf("%.40q: %v; want %q", tt.content, err, tt.says)
		}
		if !slices.Equal(got, tt.want) || err == nil && tt.says != "" {
			t.Errorf("%.40q: %q; want %q, %q", tt.content, got, tt.want, tt.says)
		}
	}
	if _, err := readVariables(path+"none", false); err == nil || err.status != exitSystem || err.text != "--env-file "+path+"none: no such file or directory" {
		t.Errorf("no file: %v", err)
	}
}

func TestLimitsValue(t *testing.T) {
	t.Parallel()
	var v limitsValue
	for _, s := range []string{"nofile=5", "core=unlimited", "cpu=1:unlimited", "nofile=6:7"} {
		if err := v.Set(s); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	}
	var got []string
	for _, l := range v {
		got = append(got, l.String())
	}
	if want := []string{"core=unlimited", "cpu=1:unlimited", "nofile=6:7"}; !slices.Equal(got, want) {
		t.Errorf("%q; want %q", got, want)
	}
	for _, name := range strings.Split(resourceNames, ", ") {
		if _, ok := resourceOf(name); !ok {
			t.Errorf("%s is named and not known", name)
		}
	}
}
