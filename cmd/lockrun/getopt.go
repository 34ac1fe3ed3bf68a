package main

import (
	"errors"
	"strings"
)

// argument says whether an option takes one.
type argument int

const (
	noArgument argument = iota
	requiredArgument
)

// longOption is an option that begins with "--". short is what next returns for
// it: the letter that means the same or, for an option without one, a rune that
// is no byte, from onlyLong on. Several names may have the same one.
type longOption struct {
	name  string
	arg   argument
	short rune
}

// onlyLong is where the runes of options without a letter begin.
const onlyLong rune = 256

// getopt reads the options of one of the tools that we stand in for, as
// getopt_long(3) of the GNU C library does when its option string begins with
// "+": up to the first operand. Its messages are that function's.
//
// The command line of lockrun itself is read by a flagSet, which knows no
// abbreviations (flock --nonblock, which is --nonblocking): a flag that is added
// could make them ambiguous, in scripts that worked.
type getopt struct {
	program string // as it was called, for the messages
	args    []string
	short   string // the letters, each with a ":" behind it if it takes an argument
	long    []longOption
	cluster string // what is left of a word of letters
	ended   bool   // the operands begin
	bsd     bool   // see newBSDGetopt
}

func newGetopt(program string, args []string, short string, long []longOption) *getopt {
	return &getopt{program: program, args: args, short: short, long: long}
}

// newBSDGetopt reads options as getopt(3) of the BSDs and the one of daemontools
// do: letters only, with messages of their own.
func newBSDGetopt(program string, args []string, letters string) *getopt {
	return &getopt{program: program, args: args, short: letters, bsd: true}
}

// operands returns what follows the options, once next has returned false.
func (g *getopt) operands() []string { return g.args }

// word returns the word that next would look at, "" in the middle of one.
func (g *getopt) word() string {
	if g.cluster != "" || len(g.args) == 0 {
		return ""
	}
	return g.args[0]
}

// next returns the next option and its argument, and false when there is none
// any more. An error is the whole message, without a line feed.
func (g *getopt) next() (opt rune, arg string, ok bool, err error) {
	if g.cluster == "" {
		// "-" is an operand.
		if g.ended || len(g.args) == 0 || len(g.args[0]) < 2 || g.args[0][0] != '-' {
			g.ended = true
			return 0, "", false, nil
		}
		word := g.args[0]
		g.args = g.args[1:]
		if word == "--" {
			g.ended = true // whatever the operands look like
			return 0, "", false, nil
		}
		if word[1] == '-' && !g.bsd {
			return g.nextLong(word[2:])
		}
		g.cluster = word[1:]
	}
	return g.nextShort()
}

// nextShort takes a letter off the cluster. Letters are bytes, as they are to
// the C library.
func (g *getopt) nextShort() (opt rune, arg string, ok bool, err error) {
	letter := g.cluster[0]
	g.cluster = g.cluster[1:]
	i := strings.IndexByte(g.short, letter)
	if i < 0 || letter == ':' || letter == ';' {
		return 0, "", false, g.failLetter("invalid option", "illegal option", letter)
	}
	opt = rune(letter)
	if !strings.HasPrefix(g.short[i+1:], ":") {
		return opt, "", true, nil
	}
	arg, g.cluster = g.cluster, ""
	if arg == "" {
		if len(g.args) == 0 {
			return 0, "", false, g.failLetter("option requires an argument", "option requires an argument", letter)
		}
		arg, g.args = g.args[0], g.args[1:]
	}
	return opt, arg, true, nil
}

// nextLong reads an option; given is what stands behind the "--".
func (g *getopt) nextLong(given string) (opt rune, arg string, ok bool, err error) {
	name, arg, hasArg := strings.Cut(given, "=")
	o, others := g.find(name)
	switch {
	case len(others) > 0:
		parts := []string{"option '--", given, "' is ambiguous; possibilities: '--", o.name, "'"}
		for _, other := range others {
			parts = append(parts, " '--", other, "'")
		}
		return 0, "", false, g.fail(parts...)
	case o == nil:
		return 0, "", false, g.fail("unrecognized option '--", given, "'")
	case o.arg == noArgument && hasArg:
		return 0, "", false, g.fail("option '--", o.name, "' doesn't allow an argument")
	case o.arg == requiredArgument && !hasArg:
		if len(g.args) == 0 {
			return 0, "", false, g.fail("option '--", o.name, "' requires an argument")
		}
		arg, g.args = g.args[0], g.args[1:]
	}
	return o.short, arg, true, nil
}

// find returns the option of that name, or the only one that begins so. Names
// that mean the same do not make each other ambiguous; others has those that
// mean something else.
func (g *getopt) find(name string) (found *longOption, others []string) {
	for i := range g.long {
		o := &g.long[i]
		switch {
		case o.name == name:
			return o, nil
		case !strings.HasPrefix(o.name, name):
		case found == nil:
			found = o
		case found.short != o.short || found.arg != o.arg:
			others = append(others, o.name)
		}
	}
	return found, others
}

func (g *getopt) failLetter(gnu, bsd string, letter byte) error {
	if g.bsd {
		return g.fail(bsd, " -- ", string([]byte{letter}))
	}
	return g.fail(gnu, " -- '", string([]byte{letter}), "'")
}

func (g *getopt) fail(parts ...string) error {
	return errors.New(g.program + ": " + strings.Join(parts, ""))
}
