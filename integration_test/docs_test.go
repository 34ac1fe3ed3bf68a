//go:build linux

package integration_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDocsNameTestsThatExist: a promise is linked to the test that pins it, and
// no link leads nowhere.
func TestDocsNameTestsThatExist(t *testing.T) {
	t.Parallel()
	pages, _ := filepath.Glob("../docs/*.md")
	link := regexp.MustCompile(`\[([^\]]*)\]\(([^)#:]+)\)`)
	named := 0
	for _, page := range append(pages, "../README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			target := filepath.Join(filepath.Dir(page), m[2])
			if !exists(target) {
				t.Errorf("%s links to %s, which is not there", page, m[2])
				continue
			}
			if !strings.HasPrefix(m[1], "Test") {
				continue
			}
			named++
			if source, _ := os.ReadFile(target); !strings.Contains(string(source), "\nfunc "+m[1]+"(t *testing.T)") {
				t.Errorf("%s names %s in %s, which is not there", page, m[1], m[2])
			}
		}
	}
	if named < 9 {
		t.Errorf("%d tests are named; there are nine promises", named)
	}
}

// What docs/security.md says of an attack is shown by a test, also where it says in
// bold that it can't be prevented.
func TestEachAttackHasATest(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile(`(?m)^\| (.*) \| (.*) \|(.*)\|$`)
	rows, without := 0, 0
	for _, m := range row.FindAllStringSubmatch(string(text), -1) {
		if m[1] == "attack" || strings.HasPrefix(m[1], "---") {
			continue
		}
		rows++
		if !strings.Contains(m[3], "[Test") {
			without++
		}
	}
	if rows == 0 || without > 0 {
		t.Errorf("%d of %d attacks have no test", without, rows)
	}
}
