package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// flagSet are the flags of a command line of lockrun's own. They end at the first
// operand, so the flags of a command that stands behind it are left alone.
//
// A run registers some sixty and is given one or two, so to register one has to
// cost nothing: there is no map, no default as a text, no help.
type flagSet struct {
	flags    []flag
	operands []string
	dashed   bool // a -- stands before them
}

// flag is one of them. Its value is set by the text that is given, and may be a
// slice, which is added to.
type flag struct {
	name    string
	letter  byte // 0 without
	value   interface{ Set(string) error }
	changed bool
}

func newFlags() *flagSet { return &flagSet{flags: make([]flag, 0, 64)} }

// value registers a flag: its name, and a letter if it has one.
func (fs *flagSet) value(v interface{ Set(string) error }, names ...string) {
	f := flag{name: names[0], value: v}
	if len(names) > 1 {
		f.letter = names[1][0]
	}
	fs.flags = append(fs.flags, f)
}

func (fs *flagSet) bool(p *bool, names ...string)        { fs.value((*boolValue)(p), names...) }
func (fs *flagSet) int(p *int, names ...string)          { fs.value((*intValue)(p), names...) }
func (fs *flagSet) string(p *string, names ...string)    { fs.value((*stringValue)(p), names...) }
func (fs *flagSet) strings(p *[]string, names ...string) { fs.value((*stringsValue)(p), names...) }

type (
	boolValue    bool
	intValue     int
	stringValue  string
	stringsValue []string
)

func (v *boolValue) Set(s string) error {
	b, err := strconv.ParseBool(s)
	if err != nil {
		return errors.New("want true or false")
	}
	*v = boolValue(b)
	return nil
}

func (v *intValue) Set(s string) error {
	n, err := strconv.Atoi(s)
	if err != nil {
		return errors.New("want a number")
	}
	*v = intValue(n)
	return nil
}

func (v *stringValue) Set(s string) error  { *v = stringValue(s); return nil }
func (v *stringsValue) Set(s string) error { *v = append(*v, s); return nil }

// isBool reports whether a flag stands without an argument; --flag=false is there
// all the same.
func (f *flag) isBool() bool {
	_, ok := f.value.(*boolValue)
	return ok
}

// lookup returns the flag of that name, nil if there is none.
func (fs *flagSet) lookup(name string) *flag {
	i := slices.IndexFunc(fs.flags, func(f flag) bool { return f.name == name })
	if i < 0 {
		return nil
	}
	return &fs.flags[i]
}

func (fs *flagSet) lookupLetter(letter byte) *flag {
	i := slices.IndexFunc(fs.flags, func(f flag) bool { return f.letter == letter && letter != 0 })
	if i < 0 {
		return nil
	}
	return &fs.flags[i]
}

// changed reports whether a flag was given.
func (fs *flagSet) changed(name string) bool {
	f := fs.lookup(name)
	return f != nil && f.changed
}

// set gives a flag its value. The error is an *invalidValueError.
func (f *flag) set(text string) error {
	if err := f.value.Set(text); err != nil {
		return &invalidValueError{f, text, err}
	}
	f.changed = true
	return nil
}

// invalidValueError says that a flag can't have that value.
type invalidValueError struct {
	flag  *flag
	value string
	err   error
}

func (e *invalidValueError) Error() string {
	name := "--" + e.flag.name
	if e.flag.letter != 0 {
		name = "-" + string(e.flag.letter) + ", " + name
	}
	return fmt.Sprintf("invalid argument %q for %q flag: %v", e.value, name, e.err)
}

func (e *invalidValueError) Unwrap() error { return e.err }

// errHelp says that the command line asks for help.
var errHelp = errors.New("help requested")

// parse sets the flags that are given, up to the first operand or a --.
func (fs *flagSet) parse(args []string) (err error) {
	for len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' { // "-" is an operand
		word := args[0]
		args = args[1:]
		if word == "--" {
			fs.dashed = true
			break
		}
		if strings.HasPrefix(word, "--") {
			args, err = fs.parseLong(word, args)
		} else {
			args, err = fs.parseLetters(word[1:], args)
		}
		if err != nil {
			return err
		}
	}
	fs.operands = args
	return nil
}

// parseLong sets --NAME, --NAME=VALUE, or --NAME VALUE, and returns the words
// behind it.
func (fs *flagSet) parseLong(word string, args []string) ([]string, error) {
	name, value, given := strings.Cut(word[2:], "=")
	f := fs.lookup(name)
	switch {
	case f == nil && name == "help":
		return nil, errHelp
	case f == nil:
		return nil, fmt.Errorf("unknown flag: --%s", name)
	case given:
	case f.isBool():
		value = "true"
	case len(args) == 0:
		return nil, fmt.Errorf("flag needs an argument: --%s", name)
	default:
		value, args = args[0], args[1:]
	}
	return args, f.set(value)
}

// parseLetters sets what a word of letters gives: -nq, -t5, -t=5, -t 5, -nqt5.
func (fs *flagSet) parseLetters(letters string, args []string) ([]string, error) {
	for letters != "" {
		f := fs.lookupLetter(letters[0])
		rest := letters[1:]
		value, given := strings.CutPrefix(rest, "=")
		switch {
		case f == nil && letters[0] == 'h':
			return nil, errHelp
		case f == nil:
			return nil, fmt.Errorf("unknown shorthand flag: %q in -%s", letters[0], letters)
		case given && value != "":
			rest = ""
		case f.isBool():
			value = "true"
		case rest != "":
			value, rest = rest, ""
		case len(args) == 0:
			return nil, fmt.Errorf("flag needs an argument: %q in -%s", letters[0], letters)
		default:
			value, args = args[0], args[1:]
		}
		if err := f.set(value); err != nil {
			return nil, err
		}
		letters = rest
	}
	return args, nil
}
