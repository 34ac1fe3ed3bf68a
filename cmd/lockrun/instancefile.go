package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// instanceFile is NAME.toml: the flags of start by their names, and the command.
// It becomes words of a command line, and knows no flag by itself, so that one
// which is added to start is known here too.
type instanceFile struct {
	path     string
	settings []setting
	argv     []string // of command; nil without
	argvLine int
}

// setting is one value for one flag.
type setting struct {
	key, value string
	line       int
}

// commandKey is the key for what is run. Unlike the flag of that name it also
// takes a list of words.
const commandKey = "command"

// notInFile are the flags of start that say what to do, and not how.
var notInFile = []string{"help", "all", "no-config", commandKey}

// fileFlags are the flags whose values name files. There they are absolute: who
// starts an instance does so from anywhere.
var fileFlags = []string{"log", "stdout", "stderr", "lock", "pidfile", "chdir", "chroot", "env-file"}

// namesFile reports whether the value of a flag is that of a file. It may also be a
// NAME, a - or syslog:daemon.info.
func namesFile(flag, value string) bool {
	switch flag {
	case "lock":
		return strings.Contains(value, "/")
	case "log", "stdout", "stderr":
		return value != "-" && !strings.HasPrefix(value, "syslog:")
	}
	return slices.Contains(fileFlags, flag)
}

// loadInstance reads the file of a NAME. It is nil if there is none.
func loadInstance(name lockName) (*instanceFile, []*configError) {
	content, path, err := readConfig(name.given)
	var e *configError
	if errors.As(err, &e) {
		return nil, []*configError{e}
	}
	if content == nil {
		return nil, nil
	}
	return parseInstance(name, path, content)
}

// parseInstance reads a file, and returns all that is wrong with it.
func parseInstance(name lockName, path string, content []byte) (*instanceFile, []*configError) {
	f := &instanceFile{path: path}
	entries, faults := parseTOML(path, content)
	fault := func(line int, format string, args ...any) {
		faults = append(faults, &configError{path, line, fmt.Sprintf(format, args...), exitConfig})
	}
	flags := newFlags()
	var o startOptions
	o.register(flags)
	lines := make(map[string]int)
	for _, e := range entries {
		if line, twice := lines[e.key]; twice {
			fault(e.line, "%s: it is in line %d already", e.key, line)
			continue
		}
		lines[e.key] = e.line
		if e.key == commandKey {
			f.argvLine = e.line
			var why string
			if f.argv, why = e.command(); why != "" {
				fault(e.line, "%s: %s", e.key, why)
				f.argv = nil
			}
			continue
		}
		flag := flags.lookup(e.key)
		switch {
		case slices.Contains(notInFile, e.key):
			fault(e.line, "%s: it is for the command line, not for a file", e.key)
			continue
		case flag == nil:
			fault(e.line, "%s", unknownKey(flags, e.key))
			continue
		case e.array && !repeatable(flag):
			fault(e.line, "%s: want one value, not an array", e.key)
			continue
		}
		for _, v := range e.values {
			text, set, why := v.forFlag(flag)
			if why == "" && set {
				why = flagError(flag.set(text))
			}
			if why != "" {
				fault(v.line, "%s: %s", e.key, why)
			} else if set {
				f.settings = append(f.settings, setting{e.key, text, v.line})
			}
		}
	}
	if len(faults) == 0 {
		argv := f.argv
		if argv == nil {
			argv = []string{"true"} // the command line may have one
		}
		if _, err := o.read(append([]string{name.given, "--"}, argv...)); err != nil {
			fault(f.lineOf(err.Error()), "%v", err)
		}
	}
	sortFaults(faults)
	return f, faults
}

func sortFaults(faults []*configError) {
	slices.SortStableFunc(faults, func(a, b *configError) int { return cmp.Compare(a.line, b.line) })
}

// lineOf returns the last line with a key that a message names.
func (f *instanceFile) lineOf(message string) int {
	line := 1
	for _, s := range f.settings {
		if namesFlag(message, s.key) {
			line = max(line, s.line)
		}
	}
	return line
}

// namesFlag reports whether a message is about a flag. What is wrong with flags
// taken together names them all, as --flag.
func namesFlag(message, flag string) bool {
	return slices.ContainsFunc(strings.FieldsFunc(message, func(r rune) bool {
		return r != '-' && (r < 'a' || r > 'z') && (r < '0' || r > '9')
	}), func(word string) bool { return strings.TrimPrefix(word, "--") == flag })
}

// sets reports whether one of the keys is in the file.
func (f *instanceFile) sets(keys ...string) bool {
	return slices.ContainsFunc(f.settings, func(s setting) bool { return slices.Contains(keys, s.key) })
}

// words are the flags of the file, without those that lose against flags of the
// command line.
func (f *instanceFile) words(loses func(key string) bool) (words []string) {
	for _, s := range f.settings {
		if !loses(s.key) {
			words = append(words, "--"+s.key+"="+s.value)
		}
	}
	return words
}

// checkSurroundings returns what is wrong with the files that it names. It is whole
// if all lines could be read.
func (f *instanceFile) checkSurroundings(whole bool) (faults []*configError) {
	if f.argv == nil {
		if whole {
			faults = append(faults, &configError{f.path, 1, "command is missing", exitConfig})
		}
	} else if f.sets("chroot", "chdir", "user", "env", "env-file", "clean-env") {
		// It is looked for elsewhere, or by somebody else.
	} else if e := (&command{env: os.Environ()}).checkAgain(f.argv); e != nil {
		faults = append(faults, &configError{f.path, f.argvLine, "command: " + e.text, exitConfig})
	} else if fi, err := os.Stat(f.argv[0]); err == nil && fi.IsDir() && strings.Contains(f.argv[0], "/") {
		faults = append(faults, &configError{f.path, f.argvLine, "command: can't execute " + f.argv[0] + ": it is a directory", exitConfig})
	}
	for _, s := range f.settings {
		if !namesFile(s.key, s.value) {
			continue
		}
		dir := filepath.Dir(s.value)
		fi, err := os.Stat(dir)
		switch {
		case err != nil:
			faults = append(faults, &configError{f.path, s.line, fmt.Sprintf("%s: %s: %s", s.key, dir, hint(err)), exitConfig})
		case !fi.IsDir():
			faults = append(faults, &configError{f.path, s.line, fmt.Sprintf("%s: %s is not a directory", s.key, dir), exitConfig})
		}
	}
	return faults
}

// entry is a line KEY = VALUE.
type entry struct {
	key    string
	line   int
	array  bool
	values []value
}

type value struct {
	kind unstable.Kind
	text string
	line int
}

// parseTOML reads what may be in an instance file: keys without tables, and
// strings, numbers, booleans and arrays of them.
//
// Not toml.Unmarshal: it tells no line but that of the first fault.
func parseTOML(path string, content []byte) (entries []entry, faults []*configError) {
	fault := func(line int, text string) {
		faults = append(faults, &configError{path, line, text, exitConfig})
	}
	content = slices.Clip(content) // for Range
	var p unstable.Parser
	p.Reset(content)
	lineOf := func(n *unstable.Node, otherwise int) int {
		if n.Raw.Length == 0 {
			return otherwise
		}
		return p.Shape(n.Raw).Start.Line
	}
	table := false
	for p.NextExpression() {
		n := p.Expression()
		switch n.Kind {
		case unstable.Comment:
			continue
		case unstable.Table, unstable.ArrayTable:
			line := 1
			if n.Child() != nil {
				line = lineOf(n.Child(), line)
			}
			if !table {
				fault(line, "there are no tables in an instance file, only KEY = VALUE")
			}
			table = true // what is in it is no fault of its own
			continue
		}
		if table {
			continue
		}
		keys := n.Key()
		keys.Next()
		e := entry{key: string(keys.Node().Data), line: lineOf(keys.Node(), 1)}
		if !keys.IsLast() {
			fault(e.line, "there are no tables in an instance file: a key has no dots")
			continue
		}
		e.array = n.Value().Kind == unstable.Array
		all := []*unstable.Node{n.Value()}
		if e.array {
			all = nil
			for items := n.Value().Children(); items.Next(); {
				all = append(all, items.Node())
			}
		}
		ok := true
		for _, item := range all {
			v := value{item.Kind, string(item.Data), lineOf(item, e.line)}
			if why := v.normalize(); why != "" {
				fault(v.line, e.key+": "+why)
				ok = false
				break
			}
			e.values = append(e.values, v)
		}
		if ok {
			entries = append(entries, e)
		}
	}
	var pe *unstable.ParserError
	if err := p.Error(); errors.As(err, &pe) {
		fault(p.Shape(p.Range(pe.Highlight)).Start.Line, "not TOML: "+pe.Message)
	} else if err != nil {
		fault(1, "not TOML: "+err.Error())
	}
	return entries, faults
}

// normalize makes a value what a flag can be set to, and returns why that can't
// be done.
func (v *value) normalize() string {
	switch v.kind {
	case unstable.String:
		if strings.Contains(v.text, "\x00") {
			return "a NUL character can't be in it"
		}
	case unstable.Integer:
		n, err := strconv.ParseInt(v.text, 0, 64)
		if err != nil {
			return "the number is too large"
		}
		v.text = strconv.FormatInt(n, 10)
	case unstable.Float:
		v.text = strings.ReplaceAll(v.text, "_", "")
	case unstable.Bool:
	default:
		return "want a string, a number, true, false, or an array of them"
	}
	return ""
}

// command returns the words that are run.
func (e *entry) command() (argv []string, why string) {
	for _, v := range e.values {
		if v.kind != unstable.String {
			return nil, fmt.Sprintf("want strings: \"%s\"", v.text)
		}
		argv = append(argv, v.text)
	}
	switch {
	case len(argv) == 0 || argv[0] == "":
		return nil, "it is empty"
	case !e.array:
		return []string{"/bin/sh", "-c", argv[0]}, ""
	case strings.Contains(argv[0], "/"):
		return argv, notAbsolute(argv[0])
	}
	return argv, ""
}

// forFlag returns what a flag is to be set to, if it is to be set: false is what
// a flag is that is not there.
func (v value) forFlag(flag *flag) (text string, set bool, why string) {
	switch {
	case flag.isBool() && v.kind != unstable.Bool:
		return "", false, "want true or false"
	case flag.isBool():
		return v.text, v.text == "true", ""
	case v.kind == unstable.Bool:
		return "", false, fmt.Sprintf("want a string or a number, not %s", v.text)
	case namesFile(flag.name, v.text):
		return v.text, true, notAbsolute(v.text)
	}
	for _, relative := range []string{"./", "../", "~"} {
		if strings.HasPrefix(v.text, relative) {
			return "", false, notAbsolute(v.text)
		}
	}
	return v.text, true, ""
}

// notAbsolute returns why a path can't be in a file. It would be relative to
// whatever directory somebody starts the instance from.
func notAbsolute(path string) string {
	if filepath.IsAbs(path) {
		return ""
	}
	return fmt.Sprintf("want an absolute path, not %q", path)
}

// repeatable reports whether a flag may be given again, and then adds to what it
// was.
func repeatable(flag *flag) bool {
	t := reflect.TypeOf(flag.value)
	return t.Kind() == reflect.Pointer && (t.Elem().Kind() == reflect.Slice || t.Elem().Kind() == reflect.Map)
}

// flagError is what a flag says of a wrong value.
func flagError(err error) string {
	var invalid *invalidValueError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &invalid):
		return fmt.Sprintf("%v, not %q", invalid.err, invalid.value)
	}
	return err.Error()
}

// unknownKey says that there is no such key, and which one may be meant.
func unknownKey(flags *flagSet, key string) string {
	known := []string{commandKey}
	for _, f := range flags.flags {
		if !slices.Contains(notInFile, f.name) {
			known = append(known, f.name)
		}
	}
	folded := strings.ReplaceAll(strings.ToLower(key), "_", "-")
	best, least := "", 3
	for _, k := range known {
		if d := editDistance(folded, k); d < least && d < len(k) {
			best, least = k, d
		}
	}
	if best == "" {
		return fmt.Sprintf("%.100q is no key: the keys are the flags of lockrun start, and command", key)
	}
	return fmt.Sprintf("%.100q is no key; %s is", key, best)
}

// editDistance is how many letters have to be added, left out or changed to make
// one word of the other (Levenshtein).
func editDistance(a, b string) int {
	if len(a) > 100 {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
