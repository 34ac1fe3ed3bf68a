package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func parseText(t testing.TB, text string) (*instanceFile, []*configError) {
	t.Helper()
	name, err := parseLock("web")
	if err != nil {
		t.Fatal(err)
	}
	return parseInstance(name, "/c/web.toml", []byte(text))
}

func TestInstanceFileBecomesWords(t *testing.T) {
	for _, test := range []struct {
		text  string
		words []string
		argv  []string
	}{
		{"", nil, nil},
		{"# nothing\n", nil, nil},
		{"quiet = true", []string{"--quiet=true"}, nil},
		{"quiet = false", nil, nil},
		{"timeout = 1.5", []string{"--timeout=1.5"}, nil},
		{"timeout = '10m'", []string{"--timeout=10m"}, nil},
		{"slots = 0x1_0", []string{"--slots=16"}, nil},
		{"slots = +3", []string{"--slots=3"}, nil},
		{"slots = '3'", []string{"--slots=3"}, nil},
		{"timeout = 1_0.2_5", []string{"--timeout=10.25"}, nil},
		{"lock = 'a'", []string{"--lock=a"}, nil},
		{"lock = []", nil, nil},
		{"lock = ['a', '/b']\nquiet = true", []string{"--lock=a", "--lock=/b", "--quiet=true"}, nil},
		{"log = '/x=y z'", []string{"--log=/x=y z"}, nil},
		{"\"quiet\" = true", []string{"--quiet=true"}, nil},
		{"command = ['a', '', '-c', \"\\u00e9\"]", nil, []string{"a", "", "-c", "é"}},
		{"command = 'a b'", nil, []string{"/bin/sh", "-c", "a b"}},
		{"command = \"\"\"\\\n  a \\\n  b\"\"\"", nil, []string{"/bin/sh", "-c", "a b"}},
		{"quiet = true\r\ncommand = ['/a']\r\n", []string{"--quiet=true"}, []string{"/a"}},
	} {
		f, faults := parseText(t, test.text)
		if len(faults) > 0 {
			t.Errorf("%q: %v", test.text, faults[0])
			continue
		}
		words := f.words(func(string) bool { return false })
		if !slices.Equal(words, test.words) || !slices.Equal(f.argv, test.argv) {
			t.Errorf("%q: %q, command %q; want %q, %q", test.text, words, f.argv, test.words, test.argv)
		}
	}
}

func TestInstanceFileFaults(t *testing.T) {
	for _, test := range []struct {
		text string
		line int
		want string
	}{
		{"\n\nquiet", 3, "not TOML"},
		{"\nquiet =", 2, "not TOML"},
		{"quiet = true\nlog = 'a\n'", 2, "not TOML"},
		{"lock = [\n'a',\n", 2, "not TOML"},
		{"# \xff", 1, "not TOML"},
		{"slots = 007", 1, "not TOML"},
		{"slots = 99999999999999999999", 1, "slots: the number is too large"},
		{"slots = 1.5", 1, "slots: want a number from 1 to 1000, not \"1.5\""},
		{"slots = true", 1, "want a string or a number"},
		{"quiet = 1", 1, "quiet: want true or false"},
		{"lock = [\n'a',\n'b',\n1,\n'./c']", 5, `want an absolute path, not "./c"`},
		{"lock = [['a']]", 1, "want a string, a number"},
		{"timeout = {a = 1}", 1, "want a string, a number"},
		{"timeout = 12:00:00", 1, "want a string, a number"},
		{"timeout = -1", 1, "must not be negative"},
		{"\n[a]\n", 2, "no tables"},
		{"\n[[a]]\n", 2, "no tables"},
		{"a.b = 1", 1, "a key has no dots"},
		{"'' = 1", 1, `"" is no key`},
		{"w = true", 1, `"w" is no key`},
		{"version = true", 1, `"version" is no key`},
		{"log = ''", 1, "want an absolute path"},
		{"log = '~/x'", 1, "want an absolute path"},
		{"command = []", 1, "it is empty"},
		{"command = ''", 1, "it is empty"},
		{"command = ['', 'x']", 1, "it is empty"},
		{"command = true", 1, "want strings"},
		{"command = ['../x']", 1, "want an absolute path"},
		{"command = ['a/b']", 1, "want an absolute path"},
		{"command = \"a\\u0000\"", 1, "NUL"},
		{"quiet = true\n\nquiet = true", 3, "quiet: it is in line 1 already"},
		{"no-wait = true\nwait = true\nquiet = true", 2, "--if-held, --no-wait and --wait contradict each other"},
		{"reentrant = true", 1, "--reentrant runs under the lock"},
		{"quiet = true\nlock = ['a', 'a']", 2, `the lock "a" is given twice`},
		{"quiet = true\nlock = ['start']", 2, "word of a subcommand"},
	} {
		_, faults := parseText(t, test.text)
		want := fmt.Sprintf("/c/web.toml:%d: ", test.line)
		if len(faults) != 1 || !strings.HasPrefix(faults[0].Error(), want) || !strings.Contains(faults[0].text, test.want) || faults[0].status != exitConfig {
			t.Errorf("%q: %v; want one fault, %s... %q", test.text, faults, want, test.want)
		}
	}
}

// A flag that is added to start later is one of the file too, whatever its type.
func TestValuesForFlagsOfEveryType(t *testing.T) {
	fs := newFlags()
	fs.bool(new(bool), "on")
	fs.int(new(int), "level")
	fs.strings(new([]string), "list")
	fs.value(new(variablesValue), "variables")
	fs.value(new(duration), "time")
	for _, test := range []struct {
		text  string
		value string
		set   bool
	}{
		{"on = true", "true", true},
		{"on = false", "false", false},
		{"level = 7", "7", true},
		{"time = 0.5", "0.5", true},
		{"list = 'x/y'", "x/y", true}, // not every slash is a path's: TERM/10/KILL
	} {
		entries, faults := parseTOML("f", []byte(test.text))
		if len(faults) > 0 {
			t.Fatal(faults[0])
		}
		text, set, why := entries[0].values[0].forFlag(fs.lookup(entries[0].key))
		if why != "" || set != test.set || set && text != test.value {
			t.Errorf("%s: %q, set %v, %q; want %q, %v", test.text, text, set, why, test.value, test.set)
		}
	}
	for i := range fs.flags {
		f := &fs.flags[i]
		if want := f.name == "list" || f.name == "variables"; repeatable(f) != want {
			t.Errorf("%s can be repeated: %v", f.name, !want)
		}
	}
}

// Every flag of start is a key, but those that are left out on purpose.
func TestEveryFlagOfStartIsAKey(t *testing.T) {
	flags := newFlags()
	var o startOptions
	o.register(flags)
	keys := 0
	for _, f := range flags.flags {
		_, faults := parseText(t, f.name+" = 1979-05-27")
		if len(faults) != 1 {
			t.Fatalf("%s: %v", f.name, faults)
		}
		if strings.Contains(faults[0].text, "is no key") {
			t.Errorf("%s is no key", f.name)
		}
		keys++
	}
	if keys < 15 {
		t.Errorf("only %d flags", keys)
	}
	for _, name := range append([]string{}, fileFlags...) {
		if flags.lookup(name) == nil {
			t.Errorf("start has no flag --%s", name)
		}
	}
	for _, name := range notInFile {
		if flags.lookup(name) == nil && name != "help" {
			t.Errorf("start has no flag --%s", name)
		}
	}
}

func TestUnknownKeysNameTheNearest(t *testing.T) {
	flags := newFlags()
	var o startOptions
	o.register(flags)
	for key, want := range map[string]string{
		"comand": "command is", "Timeout": "timeout is", "exit_code": "exit-code is", "slot": "slots is",
		"logg": "log is", "ifheld": "if-held is", "EXIT_CODE": "exit-code is",
		"x": "the keys are", "colour": "the keys are", "": "the keys are",
		strings.Repeat("timeout", 1000): "the keys are", "helpp": "the keys are", "alll": "the keys are",
	} {
		if got := unknownKey(flags, key); !strings.Contains(got, want) || len(got) > 300 {
			t.Errorf("%.20q: %q, want %q", key, got, want)
		}
	}
}

// The words of the file are words of a command line: what was read is what start
// reads.
func TestWordsAreMergedWithTheCommandLine(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("LOCKRUN_CONFIG", dir)
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "web.toml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w := strings.Fields
	for _, test := range []struct {
		file, args, want string
	}{
		{"command = ['/a', '-c']", "web", "--no-config web -- /a -c"},
		{"command = ['/a']", "-- web", "--no-config web -- /a"},
		{"command = ['/a']\nlock = ['x']", "-- web -- b", "--no-config --lock=x web -- b"},
		{"command = ['/a']\nlock = ['x']", "--lock y web", "--no-config --lock y web -- /a"},
		{"command = ['/a']\nquiet = true", "-q web -c b", "--no-config -q web -c b"},
		{"command = ['/a']\nquiet = true", "-c b web", "--no-config --quiet=true -c b web"},
		{"command = ['/a']\nquiet = true", "--quiet=false web", "--no-config --quiet=false web -- /a"},
		{"command = ['/a']\nwait = true\ntimeout = 5\nlog = '/l'", "-n web", "--no-config --log=/l -n web -- /a"},
		{"command = ['/a']\nif-held = 'skip'", "-E 3 web", "--no-config -E 3 web -- /a"},
		{"command = ['/a']\nkeep = true", "--remove web", "--no-config --remove web -- /a"},
		{"", "-w web -- b -n", "--no-config -w web -- b -n"},
	} {
		write(test.file)
		flags := newFlags()
		var o startOptions
		o.register(flags)
		args := w(test.args)
		if err := flags.parse(args); err != nil {
			t.Fatal(err)
		}
		name, ok := o.instance(flags.operands)
		if !ok {
			t.Errorf("%q: no instance", test.args)
			continue
		}
		words, err := withInstanceFile(name, flags, args)
		if err != nil || !slices.Equal(words, w(test.want)) {
			t.Errorf("%q, start %s: %q, %v; want %q", test.file, test.args, words, err, test.want)
		}
	}
}

// Whatever is in a file: it is refused with lines that there are, or start reads
// the words that it becomes, and no word of them can be taken for an operand.
func FuzzInstanceFile(f *testing.F) {
	for _, seed := range []string{
		"", "quiet = true", "command = ['a', 'b']", "command = \"\"\"\na\n\"\"\"", "lock = ['a', '/b']\n",
		"timeout = 1_0.5\nslots = 0x10", "[a]\nb = 1", "a.b = {c = [1, 2]}", "quiet", "log = '/x", "x = 1979-05-27T07:32:00Z",
		"lock = [\n'a',\n", "\"\" = 1", "slots = -0", "timeout = inf", "timeout = nan", "\xef\xbb\xbfquiet = true", "a = [[[", "log = \"/\\u0000\"", "quiet = true\r\n\r\n#\n",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		file, faults := parseText(t, text)
		for _, e := range faults {
			if e.line < 1 || e.line > strings.Count(text, "\n")+1 || e.text == "" || e.status != exitConfig {
				t.Fatalf("%q: %+v", text, e)
			}
		}
		if len(faults) > 0 {
			return
		}
		words := append(file.words(func(string) bool { return false }), "web", "--", "true")
		flags := newFlags()
		var o startOptions
		o.register(flags)
		if err := flags.parse(words); err != nil {
			t.Fatalf("%q: %q: %v", text, words, err)
		}
		c, err := o.read(flags.operands)
		if err != nil || c.lock.given != "web" || !slices.Equal(c.argv, []string{"true"}) {
			t.Fatalf("%q: %q: %+v, %v", text, words, c, err)
		}
		if o.all || o.noConfig || o.shell != "" || o.output.log.given != "" && !filepath.IsAbs(o.output.log.given) {
			t.Fatalf("%q: %+v", text, o)
		}
		for _, word := range slices.Concat(words, file.argv) {
			if strings.Contains(word, "\x00") {
				t.Fatalf("%q: %q can't be a word of a command line", text, word)
			}
		}
	})
}

// Cron does not set XDG_CONFIG_HOME, and may set another HOME.
func TestConfigDirectoryDependsOnTheUserAlone(t *testing.T) {
	t.Setenv("LOCKRUN_CONFIG", "")
	if dir := defaultConfigDir(0); dir != "/etc/lockrun" {
		t.Errorf("root's is %q", dir)
	}
	// The user daemon is everywhere.
	before := defaultConfigDir(1)
	for _, name := range []string{"XDG_CONFIG_HOME", "HOME", "USER", "LOGNAME"} {
		t.Setenv(name, t.TempDir())
	}
	if after := defaultConfigDir(1); after != before || !strings.HasSuffix(after, "/.config/lockrun") {
		t.Errorf("%q, was %q in another environment", after, before)
	}
	// Of whom nothing is known the environment may say it.
	const nobodyKnows = math.MaxInt32 - 7
	t.Setenv("HOME", "/h")
	if dir := defaultConfigDir(nobodyKnows); dir != "/h/.config/lockrun" {
		t.Errorf("%q", dir)
	}
	t.Setenv("HOME", "")
	if dir := defaultConfigDir(nobodyKnows); dir != "" {
		t.Errorf("%q without a home", dir)
	}
	t.Setenv("LOCKRUN_CONFIG", "/x")
	if dir, err := configDir(); dir != "/x" || err != nil {
		t.Errorf("%q, %v", dir, err)
	}
}
