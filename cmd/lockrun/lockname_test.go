package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestGoodNames(t *testing.T) {
	for _, name := range []string{
		"a", "Z", "0", "_", "backup", "web@1", "a.b", "a-b", "a+b", "9", "start2", "Start", "starts",
		"@", "+", "1.2.3", strings.Repeat("x", maxName),
	} {
		if why := badName(name); why != "" {
			t.Errorf("badName(%.20q) = %q, want none", name, why)
		}
	}
}

func TestBadNames(t *testing.T) {
	for _, test := range []struct{ name, want string }{
		{"", "empty"},
		{strings.Repeat("x", maxName+1), "201 bytes"},
		{".", "dot or a dash"},
		{"..", "dot or a dash"},
		{".hidden", "dot or a dash"},
		{"-", "dot or a dash"},
		{"--wait", "dot or a dash"},
		{"a b", "only letters"},
		{"a\nb", "only letters"},
		{"a\x00b", "only letters"},
		{"a/b", "only letters"},
		{"a:b", "only letters"},
		{"a*", "only letters"},
		{"$HOME", "only letters"},
		{"ä", "only letters"},
		{"\xff", "only letters"},
	} {
		if why := badName(test.name); !strings.Contains(why, test.want) {
			t.Errorf("badName(%.20q) = %q, want %q in it", test.name, why, test.want)
		}
	}
	for _, word := range append([]string{"start", "stop", "status", "help", "version"}, reserved...) {
		if why := badName(word); !strings.Contains(why, "subcommand") {
			t.Errorf("badName(%q) = %q; it is the word of a subcommand", word, why)
		}
	}
}

// A NAME never leads out of the instance directory, and no two lead to the same
// file.
func FuzzNamesStayInTheInstanceDirectory(f *testing.F) {
	for _, seed := range []string{"", "a", "..", "a/b", "../a", "a\x00", "backup", ".a", "-a", "web@1.pid", "./a", "/"} {
		f.Add(seed)
	}
	dir := f.TempDir()
	f.Setenv("LOCKRUN_DIR", dir)
	f.Fuzz(func(t *testing.T, s string) {
		n, err := parseLock(s)
		if err != nil {
			return
		}
		if !filepath.IsAbs(n.path) {
			t.Errorf("%q: %q is not absolute", s, n.path)
		}
		if n.named == strings.Contains(s, "/") {
			t.Errorf("%q: a name: %v", s, n.named)
		}
		if n.named && (filepath.Dir(n.path) != dir || filepath.Base(n.path) != s+".pid") {
			t.Errorf("%q: %q, want %q", s, n.path, filepath.Join(dir, s+".pid"))
		}
	})
}

func TestPathsAreRelativeToTheWorkingDirectory(t *testing.T) {
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ in, want string }{
		{"/run/lock", "/run/lock"},
		{"./lock", wd + "/lock"},
		{"../lock", wd + "/../lock"},
		{"a/b", wd + "/a/b"},
		{"a/../b", wd + "/a/../b"},
	} {
		n, err := parseLock(test.in)
		// Not cleaned: a/../b is not b when a is a symbolic link.
		if err != nil || n.path != test.want || n.named || n.given != test.in {
			t.Errorf("parseLock(%q) = %+v, %v; want path %q", test.in, n, err, test.want)
		}
	}
}

// Cron does not set XDG_RUNTIME_DIR, and may set another HOME.
func TestInstanceDirectoryDependsOnTheUserAlone(t *testing.T) {
	t.Setenv("LOCKRUN_DIR", "")
	before := instanceDir()
	for _, name := range []string{"XDG_RUNTIME_DIR", "HOME", "TMPDIR", "USER", "LOGNAME"} {
		t.Setenv(name, t.TempDir())
	}
	if after := instanceDir(); after != before {
		t.Errorf("instanceDir() = %q, was %q in another environment", after, before)
	}
	t.Setenv("LOCKRUN_DIR", "/somewhere")
	if dir := instanceDir(); dir != "/somewhere" {
		t.Errorf("instanceDir() = %q with LOCKRUN_DIR=/somewhere", dir)
	}
}
