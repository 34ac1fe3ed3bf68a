package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// sources parses the program's own source: what it registers and defines is
// spread over functions, and must not be listed a second time here.
func sources(t *testing.T) []*ast.File {
	t.Helper()
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	var files []*ast.File
	for _, entry := range entries {
		name := entry.Name()
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	return files
}

// registered returns the flags that the program registers, as "--long" and "-s".
// They are the string literals of calls such as
//
//	flags.bool(&quiet, "quiet", "q")
//	fs.value(&h.timeout, "timeout", "t")
func registered(t *testing.T) (flags []string) {
	t.Helper()
	method := regexp.MustCompile(`^(bool|int|string|strings|value)$`)
	for _, file := range sources(t) {
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || !method.MatchString(sel.Sel.Name) {
				return true
			}
			if set, ok := sel.X.(*ast.Ident); !ok || set.Name != "fs" && set.Name != "flags" {
				return true
			}
			var words []string
			for _, arg := range call.Args {
				if lit, ok := arg.(*ast.BasicLit); ok && lit.Kind == token.STRING {
					word, _ := strconv.Unquote(lit.Value)
					words = append(words, word)
				}
			}
			if len(words) == 0 {
				return true // of the set's own methods
			}
			flags = append(flags, "--"+words[0])
			if len(words) > 1 {
				flags = append(flags, "-"+words[1])
			}
			return true
		})
	}
	slices.Sort(flags)
	return slices.Compact(flags)
}

func TestHelpNamesEveryFlag(t *testing.T) {
	flags := registered(t)
	for _, known := range []string{"--wait", "-w", "--timeout", "--must-run", "--log", "-V"} {
		if !slices.Contains(flags, known) {
			t.Fatalf("%s is not among the flags that were found: %q", known, flags)
		}
	}
	words := strings.FieldsFunc(helpText, func(r rune) bool { return strings.ContainsRune(" \n,()[]:;'", r) })
	for _, flag := range flags {
		if !slices.Contains(words, flag) {
			t.Errorf("help does not name %s", flag)
		}
	}
	// And no flag that there is not. (A bare -- is not one; help is of every set.)
	for _, word := range words {
		if word == "--lockfile=FILE" {
			continue // another program's
		}
		if strings.HasPrefix(word, "-") && strings.Trim(word, "-") != "" && word != "-h" && word != "--help" && !slices.Contains(flags, word) {
			t.Errorf("help names %s, which is not registered", word)
		}
	}
}

func TestHelpNamesEveryExitStatus(t *testing.T) {
	i := strings.Index(helpText, "Exit status:")
	if i < 0 {
		t.Fatal("help does not speak of the exit status")
	}
	text := helpText[i:]
	found := 0
	for _, file := range sources(t) {
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || len(spec.Values) != 1 || !strings.HasPrefix(spec.Names[0].Name, "exit") {
				return true
			}
			lit, ok := spec.Values[0].(*ast.BasicLit)
			if !ok {
				t.Errorf("%s is not a plain number", spec.Names[0].Name)
				return true
			}
			found++
			if !regexp.MustCompile(`\b` + lit.Value + `\b`).MatchString(text) {
				t.Errorf("help does not mention %s, %s", spec.Names[0].Name, lit.Value)
			}
			return true
		})
	}
	if found < 12 {
		t.Errorf("only %d exit statuses were found in the source", found)
	}
}

func TestHelpNamesEverySubcommand(t *testing.T) {
	for _, word := range []string{"start", "stop", "signal", "wait", "status", "list", "restart", "check", "verify", "flock", "install-links"} {
		if subcommandOf(word) == nil || !strings.Contains(helpText, "\n       lockrun "+word+" [flags]") {
			t.Errorf("no usage line of %s", word)
		}
	}
	for _, name := range toolNames {
		if toolOf(name) == nil || !strings.Contains(helpText, "\nlockrun "+name+" does what ") {
			t.Errorf("%s is not there, or not in the help", name)
		}
	}
	for _, word := range reserved {
		if subcommandOf(word) != nil {
			t.Errorf("%s is a subcommand by now: take it off the reserved words", word)
		}
	}
}
