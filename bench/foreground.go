package main

import (
	"os"
	"path/filepath"

	"github.com/lockrun/lockrun/lock"
	"github.com/lockrun/lockrun/pidfile"
)

// Exit statuses of a refusal.
const (
	heldLockrun = 75
	heldFlock   = 1
	heldSetlock = 111 // chpst's too
)

// bareSameCalls is the peer that tells what Go costs from what lockrun costs.
const bareSameCalls = "bare Go, same calls"

// pythonRun is how a script does it that has no tool for it.
const pythonRun = `import fcntl, subprocess, sys
f = open(sys.argv[1], "a")
fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
sys.exit(subprocess.call(sys.argv[2:]))`

func measureRun(b *bench) (result, error) {
	path, err := b.newFile("run")
	if err != nil {
		return result{}, err
	}
	python := b.python.contestant(b, "python fcntl.flock", 0, "-c", pythonRun, path, "/bin/true")
	python.rarely = true
	return b.contest(b.rounds, inMilliseconds, b.besides(0, []string{path, "--", "/bin/true"},
		b.flock.contestant(b, "flock(1)", 0, path, "/bin/true"),
		tool(b.sameCalls).contestant(b, bareSameCalls, 0, path, "/bin/true"),
		tool(b.lockAndGo).contestant(b, "bare Go, locks and runs", 0, path, "/bin/true"),
		tool(b.bareGo).contestant(b, "bare Go, does nothing", 0),
		tool("/bin/true").contestant(b, "true alone", 0),
		tool(b.gofrs).contestant(b, "gofrs/flock and os/exec", 0, path, "/bin/true"),
		python,
	)...)
}

// measureExec compares those that become the command.
func measureExec(b *bench) (result, error) {
	path, err := b.newFile("exec")
	if err != nil {
		return result{}, err
	}
	return b.contest(b.rounds, inMilliseconds, b.besides(0, []string{"--exec", path, "--", "/bin/true"},
		b.flock.contestant(b, "flock(1) -F", 0, "-F", path, "/bin/true"),
		tool(b.sameExec).contestant(b, "bare Go, locks and becomes it", 0, "-F", path, "/bin/true"),
		b.setlock.contestant(b, "setlock", 0, path, "/bin/true"),
		b.chpst.contestant(b, "chpst", 0, "-l", path, "/bin/true"),
	)...)
}

func measureFlockRun(b *bench) (result, error) {
	return b.asFlock("flock-run", tool(b.lockAndGo).contestant(b, "bare Go, locks and runs", 0, b.file("flock-run"), "/bin/true"))
}

func measureFlockExec(b *bench) (result, error) {
	floor := tool(b.sameExec).contestant(b, "bare Go, locks and becomes it", 0, "-F", b.file("flock-exec"), "/bin/true")
	return b.asFlock("flock-exec", floor, "-F")
}

// asFlock compares lockrun, called by the name of flock(1), with the original.
func (b *bench) asFlock(measure string, floor contestant, options ...string) (result, error) {
	path, err := b.newFile(measure)
	if err != nil {
		return result{}, err
	}
	link := b.file(measure + "-link/flock")
	if err := os.Mkdir(filepath.Dir(link), 0o700); err != nil {
		return result{}, err
	}
	if err := os.Symlink(b.lockrun, link); err != nil {
		return result{}, err
	}
	args := append(options, path, "/bin/true")
	return b.contest(b.rounds, inMilliseconds,
		tool(link).contestant(b, "lockrun", 0, args...),
		b.flock.contestant(b, "flock(1)", 0, args...),
		floor,
		tool("/bin/true").contestant(b, "true alone", 0),
	)
}

// besides returns lockrun with those arguments, its peers, and the other lockrun
// if one was given.
func (b *bench) besides(want int, args []string, peers ...contestant) []contestant {
	all := append([]contestant{tool(b.lockrun).contestant(b, "lockrun", want, args...)}, peers...)
	if b.before != "" {
		all = append(all, tool(b.before).contestant(b, "lockrun before", want, args...))
	}
	return all
}

func measureRefuse(b *bench) (result, error) {
	path := b.file("held-by-lockrun")
	holder, err := b.superviseSleep(path)
	if err != nil {
		return result{}, err
	}
	defer holder.end()
	return b.refusals(path)
}

func measureRefuseFlock(b *bench) (result, error) {
	path := b.file("held-by-flock")
	holder, err := b.launch(string(b.flock), path, "/bin/sleep", "600")
	if err != nil {
		return result{}, err
	}
	defer holder.end()
	if err := await("flock holds "+path, func() bool { return isHeld(path) }); err != nil {
		return result{}, err
	}
	return b.refusals(path)
}

func (b *bench) refusals(path string) (result, error) {
	return b.contest(b.rounds, inMilliseconds, b.besides(heldLockrun, []string{path, "--", "/bin/true"},
		b.flock.contestant(b, "flock(1) -n", heldFlock, "-n", path, "/bin/true"),
		tool(b.sameCalls).contestant(b, bareSameCalls, heldLockrun, path, "/bin/true"),
		tool(b.lockAndGo).contestant(b, "bare Go, locks and runs", heldLockrun, path, "/bin/true"),
		tool(b.bareGo).contestant(b, "bare Go, does nothing", 0),
		tool(b.lockrun).contestant(b, "lockrun -q", heldLockrun, "-q", path, "--", "/bin/true"),
		b.setlock.contestant(b, "setlock -n", heldSetlock, "-n", path, "/bin/true"),
		b.chpst.contestant(b, "chpst -L", heldSetlock, "-L", path, "/bin/true"),
		tool(b.gofrs).contestant(b, "gofrs/flock and os/exec", heldLockrun, path, "/bin/true"),
	)...)
}

// superviseSleep starts a lockrun that holds path, and returns when its command
// runs and is recorded.
func (b *bench) superviseSleep(path string) (*background, error) {
	p, err := b.launch(b.lockrun, path, "--", "/bin/sleep", "600")
	if err != nil {
		return nil, err
	}
	err = await("lockrun holds "+path, func() bool {
		// Its own PID stands there before the command's.
		pid, err := pidfile.Read(path)
		return err == nil && pid != 0 && pid != p.pid
	})
	if err != nil {
		p.end()
		return nil, err
	}
	return p, nil
}

func isHeld(path string) bool {
	in, err := lock.Inspect(path)
	return err == nil && in.State == lock.Held
}
