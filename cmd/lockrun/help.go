package main

import (
	"fmt"
	"os"
	"runtime/debug"
)

const helpText = `usage: lockrun [flags] LOCK [--] COMMAND [ARG...]
       lockrun [flags] -c 'SHELL STRING' LOCK
       lockrun start [flags] LOCK [--] COMMAND [ARG...]
       lockrun start [flags] NAME
       lockrun start --all
       lockrun restart [flags] LOCK [-- COMMAND [ARG...]]
       lockrun stop [flags] LOCK
       lockrun signal [flags] LOCK SIGNAL
       lockrun wait [flags] LOCK
       lockrun status [flags] [LOCK...]
       lockrun list [flags]
       lockrun check [flags] [NAME...]
       lockrun verify [flags] [--] COMMAND [ARG...]
       lockrun flock [flags] ...
       lockrun lockf|setlock|run-one|run-this-one ...
       lockrun install-links [flags] DIR [NAME...]

Run COMMAND while holding LOCK, and refuse when somebody else holds it.

LOCK is a path if it has a slash in it, else the NAME of an instance, and then
the -- is needed. The file holds the PID of the command; it is locked with
flock(2), so it works together with flock(1).

Flags of lockrun and lockrun start
      --if-held WORD    when LOCK is held: fail, which says who holds it and exits
                        with 75; skip, which says nothing and exits with 0;
                        wait[:D]; replace[:D], which ends the holder (only one
                        that has held it for D); queue[:N], which waits if
                        fewer than N others do
  -n, --no-wait         --if-held fail, as without it
  -w, --wait            --if-held wait
  -t, --timeout D       wait at most D: 300ms, 1m30s, seconds; 0 does not wait
  -E, --exit-code N     exit with N instead of 75 when the lock is held
  -q, --quiet           do not say who holds the lock
  -v, --verbose         say whom it waits for (on a terminal it is shown anyway)
      --shared          share LOCK with others who ask so; never writes into it
      --slots N         run if fewer than N others with --slots do
      --lock LOCK       take this one too; may be given again
      --reentrant       run also if a command under the same LOCK started us
      --jitter D        begin after a random time, shorter than D
      --hold WORD       hold LOCK until the command ends (command), or until all
                        who inherited it have ended (tree), as flock(1) does
      --fd N            lock descriptor N of the caller, and run nothing
  -c, --command STRING  run /bin/sh -c STRING
      --no-pid          lock LOCK, whatever it holds, and do not write into it
      --keep            empty LOCK at the end (start PATH removes it)
      --remove          remove LOCK at the end (else it is emptied and stays)
      --pidfile FILE    write the PID there too
      --max-time D      end the command after D; exit with 124
      --kill-after D    kill it when it runs D longer, 10 s by default
      --restart WORD    no, on-failure or always: start the command again when
                        it ends; --max-restarts N or N/D bounds that
      --on-exit STRING  run /bin/sh -c STRING at each end; LOCKRUN_STATUS is set
      --ready WORD      the command is up when it was executed (exec), says so
                        (notify, sd_notify(3); fd:N, a newline to that descriptor),
                        or accepts connections (tcp:HOST:PORT)
      --ready-timeout D end it when it is not up in D, 60 s by default; exit 124
      --exec            become the command, which then holds LOCK alone
      --mode MODE       permission of LOCK if it has to be created, 0600 by default
      --log FILE        append the command's output to FILE, - for no file;
                        or syslog:FACILITY.PRIORITY, such as syslog:daemon.info
      --stdout FILE, --stderr FILE
                        append one of the two to FILE
      --log-rotate SPEC size:10M,keep:5 renames FILE at that size to FILE.1, and
                        so on up to FILE.5 (through a pipe, which ends with us)
      --quiet-success   not start: show the output only if COMMAND fails

What the command's process is like (flags of lockrun and lockrun start)
      --chdir DIR       its directory; start: / by default
      --chroot DIR      its root directory; --chdir is then seen from there
      --umask MODE      such as 027; start: 022 by default
      --user U[:GROUP]  whose it is, with U's groups, HOME, USER and LOGNAME
      --env NAME=VALUE  set a variable; can be repeated
      --env-file FILE   set those of FILE, a NAME=VALUE on each line, without quoting;
                        can be repeated; --env wins
      --clean-env       begin with no variable but PATH
      --nice N          19 runs last, 0 is usual, less needs root
      --rlimit LIMIT    NAME=SOFT[:HARD], numbers or unlimited: nofile=1024, core=0;
                        can be repeated
      --keep-fd N       start: it inherits descriptor N; can be repeated
LOCKRUN_LOCK is the path of LOCK in its environment, LOCKRUN_NAME the NAME.
      --no-config       start: do not read the file of NAME
      --all             start: all instances that have a file and do not run

lockrun start NAME takes what is not given from NAME.toml: log = "/var/log/x",
command = ["/usr/local/bin/x", "-v"]. It is in /etc/lockrun for root, for others
in ~/.config/lockrun, or in $LOCKRUN_CONFIG. lockrun check says what is wrong with
these files, and runs nothing.

lockrun restart ends the command and starts it again, or COMMAND instead, under
the lock that its supervisor, which start made, never lets go of.

Flags of lockrun stop, which returns when the lock is free, and of lockrun restart
      --schedule S      signals and seconds in turn, TERM/10/KILL/5 by default;
                        "forever" is a time too; T alone is TERM/T/KILL/T
      --signal SIG      begin with SIG instead of TERM
  -v, --verbose         say whom it waits for
  -t, --timeout D       do not wait for its end for longer than D
Flags of lockrun restart
  -c, --command STRING  run /bin/sh -c STRING
      --log, --stdout, --stderr, --log-rotate
                        if it has to be started anew, as with start
Flags of lockrun stop
      --dry-run         only say whom it would signal
      --force           if nobody holds LOCK, believe the PID in it
Flags of lockrun stop and lockrun signal
  -q, --quiet           do not say that nothing runs
      --must-run        exit with 3 when nothing runs

Flags of lockrun wait, which returns when the lock is free, and does not take it
      --ready           wait until LOCK is held and its command runs, instead
  -t, --timeout D       give up after D
  -q, --quiet           do not say why then
  -v, --verbose         say whom it waits for

Flags of lockrun status, which without LOCK shows all instances
  -q, --quiet           say it by the exit status alone
      --json            print an array, with an object for each

Flags of lockrun list, which prints the names of the instances that run
      --all             of all that are known

Flags of lockrun verify, which starts COMMAND, a service that should not run
twice, many times at once, and after SIGKILL and SIGTERM, and prints what it saw
      --starts N        how many times at once, 20 by default
  -t, --timeout D       wait at most D for whatever should happen, 10 s by default
      --refused N       a start that is refused must exit with N (else not with 0)
  -q, --quiet           say it by the exit status alone

lockrun flock does what flock(1) does; see lockrun flock --help
lockrun lockf does what lockf(1) of FreeBSD does
lockrun setlock does what setlock(8) of daemontools does
lockrun run-one does what run-one(1) does
lockrun run-this-one does what run-this-one(1) does
lockrun --lockfile=FILE ... does what Friedl's lockrun does

Flags of lockrun install-links, which makes symbolic links in DIR, flock by name,
through which lockrun is called as that tool; it overwrites nothing
      --list            print those that are there
      --remove          remove those that are there, and nothing else

  -h, --help, -V, --version

Exit status: that of COMMAND, 128+n if signal n killed it; 75 LOCK is held;
64 usage, 73 LOCK or a log can't be used, 77 not permitted or not verifiable,
78 an instance file is wrong, 71 other refusals of the system; 124 not ready in
time, or time is up, 126 COMMAND can't be executed, 127 not found. status: 0 runs,
1 dead and a PID left, 3 not running, 4 unknown. stop, signal, wait: 0 done or
nothing to do, 75 still held. verify: 0 it refuses a second start, 1 it does not.
check: 0, or 1 for a fault.
`

func help([]string) int {
	os.Stdout.WriteString(helpText)
	return exitOK
}

func version([]string) int {
	fmt.Println("lockrun", versionString())
	return exitOK
}

func versionString() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
