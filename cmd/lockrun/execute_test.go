package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestLookPath(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"tool": 0o755, "text": 0o644, "both": 0o644, "second/both": 0o755} {
		path := filepath.Join(dir, name)
		os.Mkdir(filepath.Dir(path), 0o755)
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	closed := filepath.Join(dir, "closed")
	if err := os.Mkdir(closed, 0); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	t.Setenv("PATH", closed+":"+dir+":"+dir+"/second")
	for _, tc := range []struct {
		name, path string
		status     int
	}{
		{"tool", dir + "/tool", 0},
		{"text", "", exitCannotExec},
		{"both", dir + "/second/both", 0},
		{"second", "", exitNotFound}, // a directory
		{"none", "", exitNotFound},   // whatever may be in a directory that is closed to us
		{"./none", "./none", 0},      // not looked for
		{"", "", exitNotFound},
	} {
		path, err := lookPath(tc.name, os.Environ())
		var e *execError
		if errors.As(err, &e); path != tc.path || (err == nil) != (tc.status == 0) || e != nil && e.status != tc.status {
			t.Errorf("lookPath(%q) = %q, %v; want %q, status %d", tc.name, path, err, tc.path, tc.status)
		}
	}
	t.Setenv("PATH", "/nonexistent::/also-not")
	if path, err := lookPath("tool", os.Environ()); path != "./tool" || err != nil {
		t.Errorf("lookPath with an empty element = %q, %v; want ./tool", path, err)
	}
}
