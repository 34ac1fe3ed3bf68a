//go:build linux

package integration_test

import (
	"fmt"
	"strings"
)

// flockCase is a script that is run twice, each time in an empty directory: with
// flock(1) of util-linux as "flock", and with lockrun by that name. Its exit
// status, what it prints and what it leaves in the directory must be the same.
//
// With $HOLD in it, it is run four times: that is flock(1) or lockrun, too.
type flockCase struct {
	name   string
	script string

	// nobody runs it as an ordinary user.
	nobody bool
	// row is the difference, in docs/compatibility.md, for which this case is
	// there; then want is what lockrun's script prints, to both outputs, and its
	// exit status behind that.
	row, want string
}

// The cases. A script prints the statuses that it is about.
func flockCases() []flockCase {
	cases := []flockCase{
		// FILE and COMMAND.
		{name: "status 0", script: `flock f true`},
		{name: "status 1", script: `flock f false`},
		{name: "status 42", script: `flock f sh -c 'exit 42'`},
		{name: "status 255", script: `flock f sh -c 'exit 255'`},
		{name: "output", script: `flock f sh -c 'echo out; echo err >&2'`},
		{name: "input", script: `echo in | flock f cat`},
		{name: "arguments", script: `flock f printf '%s|' a 'b c' '' '*' '$HOME' 'a"b'`},
		{name: "options of the command", script: `flock f echo -n -- -x --verbose`},
		{name: "dash dash", script: `flock -- f echo hi`},
		{name: "dash dash behind an option", script: `flock -n -- f echo hi`},
		{name: "dash dash behind the file", script: `flock f -- echo hi`},
		{name: "file begins with a dash", script: `flock -- -f echo hi`},
		{name: "file is a dash", script: `flock - echo hi`},
		{name: "option behind the file", script: `flock f -n true`},
		{name: "file with spaces", script: `flock 'a b  c' echo hi`},
		{name: "file with a line feed", script: "flock 'a\nb' echo hi; flock 'no\n/f' true"},
		{name: "file that is not UTF-8", script: `f=$(printf 'a\377b'); flock "$f" echo hi; flock "no/$f" true`},
		{name: "file without a name", script: `flock '' true`},
		{name: "file name too long", script: `flock $(printf %0300d 0) true`},
		{name: "file that looks like a number", script: `flock 9 echo hi`},
		{name: "absolute path", script: `flock "$PWD/f" echo hi`},
		{name: "content stays", script: `echo keep >f; touch -d 2001-01-01 f; flock f true; stat -c %Y f`},
		{name: "mode stays", script: `: >f; chmod 640 f; flock f true`},
		{name: "umask 0", script: `umask 0; flock f true`},
		{name: "umask 022", script: `umask 022; flock f true`},
		{name: "umask 077", script: `umask 077; flock f true`},
		{name: "umask 777", script: `umask 777; flock f true`},
		{name: "umask of the command", script: `umask 037; flock f sh -c umask`},
		{name: "set-group-id directory", script: `mkdir d; chmod 2775 d; flock d/f true`},
		{name: "symbolic link", script: `: >f; ln -s f l; flock l true`},
		{name: "dangling link", script: `ln -s f l; flock l true`},
		{name: "link to nowhere", script: `ln -s no/f l; flock l true`},
		{name: "circle of links", script: `ln -s l l; flock l true`},
		{name: "link to a directory", script: `mkdir d; ln -s d l; flock l echo hi`},
		{name: "hard links are one lock", script: `: >f; ln f g; flock f flock -n g echo hi`},
		{name: "device", script: `flock -s /dev/null echo hi`},
		{name: "file in proc", script: `flock -s /proc/self/status true; echo $?`},
		{name: "missing in proc", script: `flock /proc/no true`},
		{name: "directory", script: `mkdir d; flock d echo hi`},
		{name: "directory with a slash", script: `mkdir d; flock d/ echo hi`},
		{name: "working directory", script: `flock . echo hi`},
		{name: "root directory", script: `flock -s / echo hi`},
		{name: "new directory", script: `flock d/ echo hi`},
		{name: "missing directory", script: `flock no/f echo hi`},
		{name: "file as a directory", script: `: >f; flock f/g echo hi`},
		{name: "file with a slash", script: `: >f; flock f/ echo hi`},
		{name: "socket", script: `python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("s")'; flock s true`},
		{name: "script locks itself", script: `printf '%s\n' '#!/bin/sh' '[ "$FLOCKER" != "$0" ] && exec env FLOCKER="$0" flock -en "$0" "$0" "$@" || :' 'echo in "$@"; flock -n "$0" true; echo $?' >s; chmod +x s; ./s a b`},
		{name: "read-only file", script: `echo keep >f; chmod 444 f; flock f echo hi`, nobody: true},
		{name: "write-only file", script: `: >f; chmod 222 f; flock f echo hi`, nobody: true},
		{name: "forbidden file", script: `: >f; chmod 0 f; flock f echo hi`, nobody: true},
		{name: "read-only directory", script: `mkdir d; : >d/f; chmod 555 d; flock d/new echo hi; echo $?; flock d/f echo hi`, nobody: true},
		{name: "directory that can't be searched", script: `mkdir d; : >d/f; chmod 666 d; flock d/f echo hi`, nobody: true},
		{name: "directory that can't be read", script: `mkdir d; chmod 333 d; flock d echo hi`, nobody: true},
		{name: "another user's file", script: `flock -s /etc/passwd echo hi`, nobody: true},
		{name: "file is kept", script: `flock f true; flock f true; ls`},
		{name: "file is deleted meanwhile", script: `flock f sh -c 'rm f; echo hi'; ls`},
		{name: "file is replaced meanwhile", script: `flock f sh -c 'rm f; flock -n f echo second'; ls`},
		{name: "nested on two files", script: `flock f flock g echo hi`},
		{name: "nested on one file", script: `flock f flock -n f echo hi`},
		{name: "nested and shared", script: `flock -s f flock -s -n f echo hi`},

		// Wrong command lines.
		{name: "nothing", script: `flock`},
		{name: "help", script: `flock --help >out 2>err; echo $?; grep -c -e --conflict-exit-code out; cat err; rm out`},
		{name: "help by its letter", script: `flock -h >out 2>err; echo $?; grep -c -e --conflict-exit-code out; cat err; rm out`},
		{name: "help before a wrong option", script: `flock --help --no >out; echo $?; rm out`},
		{name: "help behind a wrong value", script: `flock -w x -h 2>&1 | cut -d: -f1`},
		{name: "version", script: `flock --version | grep -c '^flock from .*util-linux [0-9]'; flock -V | wc -l`},
		{name: "help into a full device", script: `flock -h >/dev/full`},
		{name: "version into a full device", script: `flock -V >/dev/full`},
		{name: "question mark", script: `flock -?`},
		{name: "unknown letter", script: `flock -k f true`},
		{name: "unknown letter in a cluster", script: `flock -nk f true`},
		{name: "letter that is no byte", script: `flock -é f true`},
		{name: "colon", script: `flock -: f true`},
		{name: "unknown option", script: `flock --other f true`},
		{name: "unknown option with a value", script: `flock --other=1 f true`},
		{name: "option too long", script: `flock --sharedd f true`},
		{name: "ambiguous n", script: `flock --n f true`},
		{name: "ambiguous no", script: `flock --no f true`},
		{name: "ambiguous no with a value", script: `flock --no=1 f true`},
		{name: "ambiguous c", script: `flock --c f true`},
		{name: "ambiguous ver", script: `flock --ver f true`},
		{name: "value that is not allowed", script: `flock --shared=1 f true; flock --excl= f true`},
		{name: "letter without its value", script: `flock -w; flock -E; flock -nw`},
		{name: "option without its value", script: `flock --wait; flock --timeout; flock --conflict-exit-code; flock --conf`},
		{name: "by its whole path", script: `$(command -v flock) --other 2>&1 | sed 's,^/.*/,,'; $(command -v flock) f nonono; $(command -v flock) --verbose g true | head -c 20`},
		{name: "-c before the file", script: `flock -c true f`},
		{name: "--command before the file", script: `flock --command true f`},
		{name: "-o and -F", script: `flock -o -F f true; flock -oF f true; flock --close --no-fork f true; echo $?`},
		{name: "wrong value before -o and -F", script: `flock -oFEx f true`},
		{name: "-o and -F without a file", script: `flock -o -F`},

		// -c.
		{name: "-c", script: `flock f -c 'echo $0 $# "$@"; exit 3'`},
		{name: "--command", script: `flock f --command 'echo hi; exit 3'`},
		{name: "-c with options", script: `flock -n -x f -c 'echo hi'`},
		{name: "-c without a string", script: `flock f -c`},
		{name: "--command without a string", script: `flock f --command`},
		{name: "-c with two strings", script: `flock f -c 'echo a' b`},
		{name: "--command with two strings", script: `flock f --command 'echo a' b`},
		{name: "-c and an empty string", script: `flock f -c ''`},
		{name: "-c glued to its string", script: `flock f -ctrue`},
		{name: "--command with an equals sign", script: `flock f --command=true`},
		{name: "--command abbreviated", script: `flock f --comm true`},
		{name: "-c creates no file for a wrong line", script: `flock f -c a b; ls`},
		{name: "-c and an empty SHELL", script: `SHELL= flock f -c 'echo $0'`},
		{name: "-c and a SHELL of one's own", script: `printf '%s\n' '#!/bin/sh' 'printf "%s|" "$@"' >mysh; chmod +x mysh; SHELL=./mysh flock f -c 'a b'`},
		{name: "-c and a SHELL from PATH", script: `SHELL=sh flock f -c 'echo hi'`},
		{name: "-c and a SHELL that is missing", script: `SHELL=/no/shell flock f -c 'echo hi'`},
		{name: "-c and --verbose", script: `SHELL=/bin/sh flock --verbose f -c 'echo hi'`},
		{name: "-c and -F", script: `flock -F f -c 'echo hi; exit 3'`},
		{name: "-c and -o", script: `flock -o f -c 'flock -n f echo free'`},
		{name: "-c behind a number", script: `exec 9>g; flock 9 -c 'echo hi'; ls`},

		// Descriptors.
		{name: "descriptor", script: `exec 9>f; flock 9; echo $?; flock -n f true; echo $?`},
		{name: "descriptor to read", script: `: >f; exec 9<f; flock 9; echo $?; flock -n f true; echo $?`},
		{name: "descriptor for both", script: `exec 9<>f; flock -x 9; echo $?; flock -n f true; echo $?`},
		{name: "descriptor twice", script: `exec 9>f; flock -n 9; flock -n 9; echo $?`},
		{name: "descriptor, shared", script: `exec 9>f; flock -s 9; flock -ns f echo shared; flock -n f true; echo $?`},
		{name: "descriptor from shared to exclusive", script: `exec 9>f; flock -s 9; flock -x 9; flock -ns f true; echo $?`},
		{name: "descriptor from exclusive to shared", script: `exec 9>f; flock -x 9; flock -s 9; flock -ns f echo shared`},
		{name: "descriptor that can't become exclusive", script: `exec 9>f 8>f; flock -s 8; flock -s 9; flock -n -x 9; echo $?`},
		{name: "descriptor given up", script: `exec 9>f; flock 9; flock -u 9; echo $?; flock -n f echo free`},
		{name: "descriptor given up, though -n", script: `exec 9>f; flock 9; flock -u -n 9; echo $?; flock -n f echo free`},
		{name: "descriptor given up, by --unlock", script: `exec 9>f; flock 9; flock --unlock 9; flock -n f echo free`},
		{name: "descriptor given up that was not locked", script: `exec 9>f; flock -u 9; echo $?`},
		{name: "descriptor closed", script: `exec 9>f; flock 9; exec 9>&-; flock -n f echo free`},
		{name: "descriptor of a subshell", script: `( flock -n 9 || exit 1; echo in; flock -n f true; echo $? ) 9>f; flock -n f echo free`},
		{name: "descriptor of a subshell that is refused", script: `exec 8>f; flock 8; ( flock -n 9 || exit 7; echo in ) 9>f; echo $?`},
		{name: "descriptor of a subshell, waiting", script: `exec 8>f; flock 8; ( flock -w 0.02 9 || exit 7; echo in ) 9>f; echo $?; exec 8>&-; ( flock -w 5 9 || exit 7; echo in ) 9>f`},
		{name: "descriptor whose wait is over is free", script: `exec 8>f 9>f; flock 8; flock -w 0.02 9; echo $?; flock -u 8; flock -n f echo free`},
		{name: "descriptor of a directory", script: `mkdir d; exec 9<d; flock 9; echo $?; flock -n d true; echo $?`},
		{name: "descriptor of a pipe", script: `true | flock 0; echo $?`},
		{name: "descriptor of a device", script: `exec 9</dev/zero; flock -s 9; echo $?`},
		{name: "descriptor 0", script: `: >f; { flock 0; echo $?; flock -n f true; echo $?; } <f`},
		{name: "descriptor 1", script: `{ flock 1; flock -n f true; echo $? >&2; } >f`},
		{name: "descriptor 2", script: `{ flock 2; flock -n f true; echo $?; } 2>f`},
		{name: "descriptor that is not open", script: `flock 9`},
		{name: "descriptor that is not open, low", script: `flock 3; flock 4; flock 5; flock 6`},
		{name: "descriptor that is not open, given up", script: `flock -u 9`},
		{name: "descriptor that is not open, -n", script: `flock -n 9; flock -w 1 9; flock -s 9`},
		{name: "descriptor that is not open, -E", script: `flock -n -E 5 9`},
		{name: "descriptor that is not open, --verbose", script: `flock --verbose 9`},
		{name: "descriptor with a zero", script: `exec 9>f; flock 09; flock -n f true; echo $?`},
		{name: "descriptor with a plus", script: `exec 9>f; flock +9; flock -n f true; echo $?`},
		{name: "descriptor with a space", script: `exec 9>f; flock ' 9'; flock -n f true; echo $?`},
		{name: "descriptor below zero", script: `flock -- -1; flock -1`},
		{name: "descriptor and options that do not matter", script: `exec 9>f; flock -F 9; echo $?; flock -o 9; echo $?`},
		{name: "descriptor, --verbose", script: `exec 9>f; flock --verbose 9`},
		{name: "descriptor, --verbose, given up", script: `exec 9>f; flock --verbose -u 9`},

		// What the command inherits, and who keeps the lock.
		{name: "lock while the command runs", script: `flock f sh -c 'flock -n f true; echo $?'; flock -n f echo free`},
		{name: "lock while the command runs, -F", script: `flock -F f sh -c 'flock -n f true; echo $?'; flock -n f echo free`},
		{name: "lock while the command runs, -o", script: `flock -o f sh -c 'flock -n f true; echo $?'; flock -n f echo free`},
		{name: "command gives up by descriptor", script: `flock f sh -c 'flock -u 3; flock -n f echo free'`},
		{name: "command closes the descriptor", script: `flock f sh -c 'exec 3>&-; flock -n f true; echo $?'`},
		{name: "command closes the descriptor, -F", script: `flock -F f sh -c 'exec 3>&-; flock -n f echo free'`},
		{name: "what the command leaves keeps the lock", script: `mkfifo go; flock f sh -c 'read x <go >/dev/null 2>&1 & '; flock -n f true; echo $?; echo >go; flock f echo free`},
		{name: "what the command leaves, -o", script: `mkfifo go; flock -o f sh -c 'read x <go >/dev/null 2>&1 & '; flock -n f echo free; echo >go`},
		{name: "what the command leaves, -F", script: `mkfifo go; flock -F f sh -c 'read x <go >/dev/null 2>&1 & '; flock -n f true; echo $?; echo >go; flock f echo free`},
		{name: "process of -F", script: `sh -c 'echo $$ >a; exec flock -F f sh -c "echo \$\$ >b"'; cmp a b && echo same; rm a b`},
		{name: "process without -F", script: `sh -c 'echo $$ >a; exec flock f sh -c "echo \$PPID >b; echo \$\$ >c"'; cmp a b && echo parent; cmp -s a c || echo other; rm a b c`},
		{name: "process group and session", script: `flock f cut -d' ' -f5,6,7 /proc/self/stat >a; cut -d' ' -f5,6,7 /proc/self/stat >b; cmp a b && echo same; rm a b`},
		{name: "working directory of the command", script: `mkdir d; cd d; flock ../f pwd`},
		{name: "environment of the command", script: `A=1 B='x y' C= flock f env | sort | grep '^[ABC]='`},
		{name: "no environment", script: `f=$(command -v flock); env -i $f f /usr/bin/env`},
		{name: "number of descriptors", script: `ulimit -Sn 100; ulimit -Hn 200; flock f sh -c 'ulimit -Sn; ulimit -Hn'; flock -F f sh -c 'ulimit -Sn; ulimit -Hn'`},
		{name: "other limits", script: `ulimit -c 0; ulimit -s 4096; flock f sh -c 'ulimit -c; ulimit -s'; flock -F f sh -c 'ulimit -c; ulimit -s'`},
		{name: "signals that were ignored", script: `trap '' HUP INT; flock f grep SigIgn /proc/self/status; flock -F f grep SigIgn /proc/self/status`},
		{name: "no signal was ignored or blocked", script: `flock f grep -e SigIgn -e SigBlk /proc/self/status; flock -F f grep -e SigIgn -e SigBlk /proc/self/status`},
		{name: "signals that were blocked", script: `python3 -c 'import os, signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGUSR2]); os.execvp("flock", ["flock"] + sys.argv[1:])' f grep SigBlk /proc/self/status`},
		{name: "signals that were blocked, -F", script: `python3 -c 'import os, signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGUSR2]); os.execvp("flock", ["flock"] + sys.argv[1:])' -F f grep SigBlk /proc/self/status`},
		{name: "SIGCHLD ignored", script: `trap '' CHLD; flock f sh -c 'exit 3'`},
		{name: "niceness", script: `nice -n 5 flock f nice; nice -n 5 flock -F f nice`},
		{name: "standard input is closed behind", script: `flock f cat </dev/null`},

		// What can't be executed, or was killed.
		{name: "killed by its own process", script: `flock f sh -c 'kill -9 $$'`},
		{name: "-o and a status", script: `flock -o f sh -c 'exit 9'`},
		{name: "pipe whose reader is gone", script: `flock f yes | head -n 1`},

		// --verbose.
		{name: "--verbose", script: `flock --verbose f echo hi`},
		{name: "--verbose, nothing to run", script: `flock --verbose f nonono`},
		{name: "--verbose, order in a pipe", script: `flock --verbose f echo hi 2>&1 | cat`},
		{name: "--verbose, order in a file", script: `flock --verbose f echo hi >out`},
		{name: "--verbose, both outputs", script: `flock --verbose f sh -c 'echo out; echo err >&2' 2>&1`},
		{name: "--verbose, -F", script: `flock --verbose -F f echo hi`},
		{name: "--verbose, -F, nothing to run", script: `flock --verbose -F f nonono`},
		{name: "--verbose, -o", script: `flock --verbose -o f echo hi`},
		{name: "--verbose, -u", script: `flock --verbose -u f echo hi`},
		{name: "--verbose into a full device", script: `flock --verbose f true >/dev/full`},
		{name: "--verbose into a full device, status", script: `flock --verbose f sh -c 'exit 9' >/dev/full`},
		{name: "--verbose into a pipe without a reader", script: `{ flock --verbose f sh -c 'trap "" PIPE; while echo x 2>/dev/null; do :; done'; echo $? >&2; } | :`},
		{name: "--verbose twice", script: `flock --verbose --verbose f echo hi`},

		// A lock that somebody else has.
		{name: "held, -n", script: `exec 8>f; $HOLD 8; flock -n f echo hi`},
		{name: "held shared, -n", script: `exec 8>f; $HOLD -s 8; flock -n f echo hi`},
		{name: "held shared, -s", script: `exec 8>f; $HOLD -s 8; flock -sn f echo hi`},
		{name: "held, -s", script: `exec 8>f; $HOLD 8; flock -sn f echo hi`},
		{name: "held, -F", script: `exec 8>f; $HOLD 8; flock -nF f echo hi`},
		{name: "held, -o", script: `exec 8>f; $HOLD 8; flock -no f echo hi`},
		{name: "held, -u", script: `exec 8>f; $HOLD 8; flock -u f echo hi`},
		{name: "held, -c", script: `exec 8>f; $HOLD 8; flock -n f -c 'echo hi'`},
		{name: "held by a command", script: `$HOLD f sh -c 'flock -n f echo hi; echo $?'; flock -n f echo free`},
		{name: "held by a command, -F", script: `$HOLD -F f sh -c 'flock -n f echo hi; echo $?'; flock -n f echo free`},
		{name: "held by a command, shared", script: `$HOLD -s f sh -c 'flock -sn f echo hi; flock -n f true; echo $?'`},
		{name: "held by a command, -o", script: `$HOLD -o f sh -c 'flock -n f echo hi; echo $?'`},
		{name: "held by a command, which gives it up", script: `$HOLD f sh -c 'flock -u 3; flock -n f echo hi'`},
		{name: "held by what a command left", script: `mkfifo go; $HOLD f sh -c 'read x <go >/dev/null 2>&1 & '; flock -n f true; echo $?; echo >go; flock f echo free`},
		{name: "SIGALRM while the command runs, -w", script: `flock -w 100 f sh -c 'kill -ALRM $PPID; echo hi'`},
		{name: "SIGALRM while the command runs, -w 0", script: `flock -w 0 f sh -c 'kill -ALRM $PPID; echo hi'`},
		{name: "held directory", script: `mkdir d; exec 8<d; $HOLD 8; flock -n d true; echo $?; $HOLD -u 8; flock -n d echo free`},
		{name: "held, descriptor", script: `exec 8>f 9>f; $HOLD 8; flock -n 9; echo $?; $HOLD -u 8; flock -n 9; echo $?; $HOLD -n f true; echo $?`},
		{name: "held, descriptor shared with others", script: `exec 8>f; $HOLD 8; flock -n 8; echo $?; flock -u 8; $HOLD -n f echo free`},
		{name: "held, nothing is touched", script: `echo keep >f; chmod 640 f; exec 8<f; $HOLD 8; flock -n f sh -c 'echo >ran'; ls`},
		{name: "held, the wait ends when it is free", script: `mkfifo go; exec 8>f; $HOLD 8; { read x <go; echo >free; flock -u 8; } & exec 8>&-; echo >go; flock f cat free; wait`},
		{name: "held, the wait with a limit ends when it is free", script: `mkfifo go; exec 8>f; $HOLD 8; { read x <go; echo >free; flock -u 8; } & exec 8>&-; echo >go; flock -w 100 f cat free; wait`},

		// Differences.
		{name: "version's words", script: `flock -V | sed 's/lockrun [^,]*,/lockrun X,/'`, row: "version", want: "flock from lockrun X, as in util-linux 2.43\n0\n"},
		{name: "help's words", script: `flock -h | tail -n 1`, row: "help", want: "This is lockrun, which does what flock(1) of util-linux does.\n0\n"},
		{name: "nothing to lock", script: `flock -n`, row: "newer", want: "flock: missing file descriptor, file or directory\n64\n"},
		{name: "nothing to lock, by --", script: `flock --`, row: "newer", want: "flock: missing file descriptor, file or directory\n64\n"},
		{name: "ambiguous s", script: `flock --s f true`, row: "newer", want: "flock: option '--s' is ambiguous; possibilities: '--shared' '--start'\nTry 'flock --help' for more information.\n64\n"},
		{name: "fifo", script: `mkfifo p; timeout 2 flock p echo hi; echo $?`, row: "fifo", want: "hi\n0\n0\n"},
		{name: "fifo is left blocking", script: `mkfifo p; timeout 2 flock p sed -n 's/flags:.*\(.\)...$/\1/p' /proc/self/fdinfo/3`, row: "fifo", want: "0\n0\n"},
		{name: "closed input", script: `flock f readlink /proc/self/fd/0 <&-; flock f sh -c 'flock -u 3; echo $?'`, row: "closed", want: "/dev/null\n0\n0\n"},
		{name: "closed descriptor 0", script: `flock 0 <&-; echo $?`, row: "closed", want: "0\n0\n"},
		{name: "ignored SIGTERM", script: `trap '' TERM; flock f sh -c 'kill -TERM $$'; echo $?`, row: "ignored", want: "143\n0\n"},
		{name: "blocked SIGTERM", script: `python3 -c 'import os, signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGTERM]); os.execvp("flock", ["flock"] + sys.argv[1:])' f sed -n 's/^SigBlk:.*\(....\)/\1/p' /proc/self/status`, row: "ignored", want: "0200\n0\n"},
		{name: "decimal comma", script: `LC_ALL=de_DE.UTF-8 flock -w 1,5 f true`, row: "locale", want: "flock: invalid timeout: '1,5'\n64\n"},
		{name: "number too large for a double", script: `flock -w 1e400 f true`, row: "double", want: "flock: invalid timeout: '1e400': Numerical result out of range\n64\n"},
		{name: "number too small for a double", script: `flock -w 1e-5000 f true; echo $?`, row: "double", want: "0\n0\n"},
		{name: "variable set twice", script: `python3 -c 'import ctypes, os
v = lambda *w: (ctypes.c_char_p * (len(w) + 1))(*w, None)
ctypes.CDLL(None).execve(b"'"$(command -v flock)"'", v(b"flock", b"f", b"/usr/bin/env"), v(b"A=1", b"A=2"))'`, row: "environment", want: "A=1\n0\n"},
	}

	// Options, on a free file and on a held one.
	for _, options := range []string{
		"-s", "--shared", "--sh", "-x", "--exclusive", "--exclusi", "--e", "-e", "-u", "--unlock", "--u",
		"-n", "--nb", "--nonblocking", "--nonblock", "--non", "-o", "--close", "--cl", "-F", "--no-fork", "--no-f",
		"--verb", "-sn", "-xn", "-en", "-ns", "-nF", "-no", "-sxe", "-xs", "-s -x", "-x -s", "-u -x", "-x -u",
		"-w1", "-w 1", "-nw1", "-nw 1", "--timeout 1", "--timeout=1", "--tim=1", "--t 1", "--wait 1", "--wait=1", "--w 1", "--w=1",
		"-w 1 -n", "-w 1 -w 2", "-w 0", "-w 0.0", "-w0", "--wait=0", "-w 1e-7", "-w -0", "-w 0.5", "-w .5", "-w 5.", "-w 1e2", "-w 1E2", "-w 0x10", "-w 0x1p-3", "-w +1",
		"-w 1e18", "-w 3000000000", "-E 5", "-E5", "-nE5", "-E 0", "-E 255", "-E +5", "-E 010", "--conflict-exit-code 5", "--conflict-exit-code=5", "--con=5", "-E 5 -E 6",
	} {
		cases = append(cases, flockCase{name: "free, " + options, script: "flock " + options + " f echo hi"})
	}
	for _, options := range []string{
		"-n", "--nb", "--nonblocking", "--nonblock", "-sn", "-xn", "-en", "-nF", "-no", "-w 0", "-w 0.000", "-w 1e-7", "-w 1e-400", "-nw 100", "-w 100 -n",
		"-w 0.01", "-w .02", "-w 1e-2", "-w 0x1p-6", "-w 0.000001", "--timeout 0.01", "--timeout=0.01", "--wait .01", "--wait=.01", "-sw .01", "-w .01 -F", "-w .01 -o",
		"-w 100 -w 0", "-w 0 -w .01", "-n -E 5", "-nE5", "-w .01 -E 5", "-E 5 -w 0", "-w.01 -E0", "-n -E 0", "-n -E 255", "-n -E 9 -E 1", "--con=7 --nb",
		"-n --verbose", "--verbose -n -E 5", "--verbose -w .01", "--verbose -w 0", "--verbose -w .01 -E 5", "-n --verbose -F", "-u --verbose",
	} {
		cases = append(cases, flockCase{name: "held, " + options, script: "exec 8>f; $HOLD 8; flock " + options + " f echo hi; echo $?"})
	}

	// Values that are wrong.
	for _, value := range []string{"abc", "1x", "1,5", "", " ", "1 ", "--5", "1e", "0x", "0xg", "1_0", "0x_1", "e5", ".", "+-1", "1 2"} {
		cases = append(cases, flockCase{
			name: fmt.Sprintf("-w %q", value), script: "flock -w '" + value + "' f true", row: "newer",
			want: "flock: invalid timeout: '" + value + "'\n64\n",
		})
	}
	cases = append(cases, flockCase{name: "-w 1e5000", script: "flock -w 1e5000 f true", row: "newer", want: "flock: invalid timeout: '1e5000': Numerical result out of range\n64\n"})
	for _, value := range []string{"-1", "-0.5", "1e300", "inf", "-inf", "INFINITY", "nan", "-nan", "1e19", "9223372036854775807", "9223372036854774784"} {
		cases = append(cases, flockCase{name: fmt.Sprintf("-w %q", value), script: "flock -w '" + value + "' f true"})
	}
	for _, value := range []string{
		"abc", "", " ", "1x", "0x10", "1.5", "-1", "256", "300", "99999999999", "2147483647", "2147483648", "-2147483649", "9223372036854775807",
		"9223372036854775808", "-9223372036854775809", "9223372036854775808x", "99999999999x", "5 ", "+", "-", "+-5", "1_0",
	} {
		cases = append(cases, flockCase{name: fmt.Sprintf("-E %q", value), script: "flock -E '" + value + "' f true"})
		cases = append(cases, flockCase{name: fmt.Sprintf("descriptor %q", value), script: "flock -- '" + value + "'"})
	}

	// What can't be executed is the same with and without -F.
	for name, script := range map[string]string{
		"not in PATH":                             `flock f nonono`,
		"no such file":                            `flock f ./nonono`,
		"without a name":                          `flock f ''`,
		"not executable":                          `: >x; flock f ./x`,
		"directory":                               `flock f .`,
		"directory in PATH":                       `mkdir -p p/x; PATH=$PWD/p:$PATH flock f x`,
		"file as a directory":                     `: >x; flock f ./x/y`,
		"interpreter missing":                     `echo '#!/no/such' >x; chmod +x x; flock f ./x`,
		"interpreter missing, in PATH":            `mkdir p q; echo '#!/no/such' >p/x; echo 'echo second' >q/x; chmod +x p/x q/x; PATH=$PWD/p:$PWD/q:$PATH flock f x`,
		"script without an interpreter":           `echo 'echo "$0" "$#" "$1"; exit 4' >x; chmod +x x; flock f ./x 'a b' c`,
		"script without an interpreter, in PATH":  `mkdir p; echo 'echo "$0" "$#" "$1"; exit 4' >p/x; chmod +x p/x; PATH=$PWD/p:$PATH flock f x 'a b' c`,
		"empty script":                            `: >x; chmod +x x; flock f ./x`,
		"not executable in PATH":                  `mkdir p; : >p/x; PATH=$PWD/p:$PATH flock f x`,
		"not executable, then executable in PATH": `mkdir p q; : >p/x; echo 'echo second' >q/x; chmod +x q/x; PATH=$PWD/p:$PWD/q:$PATH flock f x`,
		"PATH with an empty element":              `echo 'echo here' >x; chmod +x x; PATH=$PATH: flock f x; PATH=:$PATH flock f x; f=$(command -v flock); PATH= $f f x`,
		"PATH of files and missing directories":   `: >file; PATH=/no/such:$PWD/file:$PATH flock f echo hi; f=$(command -v flock); PATH=/no/such:$PWD/file $f f echo hi`,
		"no PATH":                                 `f=$(command -v flock); env -u PATH $f f sh -c 'echo hi'`,
		"relative PATH":                           `mkdir p; echo 'echo "$0"' >p/x; chmod +x p/x; PATH=p:$PATH flock f x`,
		"link to nowhere":                         `ln -s no x; flock f ./x`,
		"circle of links":                         `ln -s x x; flock f ./x`,
		"circle of links in PATH":                 `mkdir p; ln -s x p/x; PATH=$PWD/p:$PATH flock f x`,
		"file is created all the same":            `flock new nonono; ls`,
		"lock is free then":                       `flock f nonono; flock -n f echo free`,
		"busy text file":                          `cp /bin/true x; exec 9>>x; flock f ./x`,
		"busy text file in PATH":                  `mkdir p; cp /bin/true p/x; exec 9>>p/x; PATH=$PWD/p:$PATH flock f x`,
		"signal 1":                                `flock f sh -c 'kill -HUP $$'; echo $?`,
		"signal 2":                                `flock f sh -c 'kill -INT $$'; echo $?`,
		"signal 3":                                `ulimit -c 0; flock f sh -c 'kill -QUIT $$'; echo $?`,
		"signal 6":                                `ulimit -c 0; flock f sh -c 'kill -ABRT $$'; echo $?`,
		"signal 9":                                `flock f sh -c 'kill -KILL $$'; echo $?`,
		"signal 10":                               `flock f sh -c 'kill -USR1 $$'; echo $?`,
		"signal 11":                               `ulimit -c 0; flock f sh -c 'kill -SEGV $$'; echo $?`,
		"signal 13":                               `flock f sh -c 'kill -PIPE $$'; echo $?`,
		"signal 14":                               `flock f sh -c 'kill -ALRM $$'; echo $?`,
		"signal 15":                               `flock f sh -c 'kill -TERM $$'; echo $?`,
		"signal 40":                               `flock f sh -c 'kill -40 $$'; echo $?`,
		"descriptors":                             `flock f sh -c 'for n in 3 4 5 6 7 8 9; do readlink /proc/$$/fd/$n || echo none; done'`,
		"descriptors, with others":                `exec 3>a 5>b; flock f sh -c 'for n in 3 4 5 6 7 8 9; do readlink /proc/$$/fd/$n || echo none; done'`,
		"descriptors, with all that are low":      `exec 3>a 4>b 5>c 6>d; flock f sh -c 'for n in 3 4 5 6 7 8 9; do readlink /proc/$$/fd/$n || echo none; done'`,
		"flags of the descriptor":                 `flock f sed -n 's/^flags:.*\(....\)/\1/p' /proc/self/fdinfo/3; : >g; flock -s g sed -n 's/^flags:.*\(....\)/\1/p' /proc/self/fdinfo/3`,
	} {
		cases = append(cases, flockCase{name: "execute: " + name, script: script})
		cases = append(cases, flockCase{name: "execute with -F: " + name, script: strings.NewReplacer("flock f ", "flock -F f ", "flock new ", "flock -F new ", "$f f ", "$f -F f ", "flock -s g", "flock -F -s g").Replace(script)})
	}
	cases = append(cases,
		flockCase{name: "descriptors, -o", script: `exec 3>a; flock -o f sh -c 'for n in 3 4 5 6 7 8 9; do readlink /proc/$$/fd/$n || echo none; done'`},
		flockCase{name: "execute: directory that can't be searched in PATH", script: `mkdir p; : >p/x; chmod 0 p; PATH=$PWD/p:$PATH flock f x; PATH=$PWD/p:$PATH flock -F f x`, nobody: true},
	)
	if len(cases) < 150 {
		panic("cases are missing")
	}
	return cases
}
