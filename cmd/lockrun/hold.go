package main

import (
	"errors"

	"github.com/lockrun/lockrun/lock"
	"github.com/lockrun/lockrun/pidfile"
	"github.com/spf13/pflag"
)

// holdFlags say how a lock is to be had; run and start share them.
type holdFlags struct {
	wait    bool
	timeout duration
	ifHeld  ifHeldValue
	status  statusValue
	waitFlags
	changed func(name string) bool
	noPID   bool
	keep    bool
	remove  bool
}

func (h *holdFlags) register(fs *pflag.FlagSet) {
	h.status = exitHeld
	h.changed = fs.Changed
	fs.Var(&h.ifHeld, "if-held", "")
	fs.BoolVarP(&h.wait, "wait", "w", false, "")
	fs.VarP(&h.timeout, "timeout", "t", "")
	fs.VarP(&h.status, "exit-code", "E", "")
	h.waitFlags.register(fs)
	fs.BoolVar(&h.noPID, "no-pid", false, "")
	fs.BoolVar(&h.keep, "keep", false, "")
	fs.BoolVar(&h.remove, "remove", false, "")
}

// waits reports whether a held lock is waited for.
func (h *holdFlags) waits() bool {
	if h.timeout.set {
		return h.timeout.d > 0
	}
	return h.wait
}

// showWait shows that wait, if there is to be one.
func (h *holdFlags) showWait(name lockName, catches bool) (end func()) {
	if !h.waits() {
		return func() {}
	}
	return h.show(name, "waiting for", catches)
}

// check returns what is wrong with the flags taken together.
func (h *holdFlags) check() error {
	switch {
	case h.keep && h.remove:
		return errors.New("--keep and --remove contradict each other")
	case h.ifHeld == ifHeldSkip && h.changed("exit-code"):
		return errors.New("--if-held skip and --exit-code contradict each other")
	case h.remove && h.noPID:
		return errors.New("--remove needs a PID file: a file that was locked with --no-pid is never removed")
	}
	return nil
}

// ifHeldValue is a flag's word: what to do when the lock is held, also after a
// bounded wait.
type ifHeldValue string

const (
	ifHeldFail ifHeldValue = "fail" // say who holds it, exit with 75
	ifHeldSkip ifHeldValue = "skip" // say nothing, exit with 0
)

func (v *ifHeldValue) String() string { return string(*v) }
func (v *ifHeldValue) Type() string   { return "word" }

func (v *ifHeldValue) Set(s string) error {
	switch w := ifHeldValue(s); w {
	case ifHeldFail, ifHeldSkip:
		*v = w
		return nil
	}
	return errors.New("want fail or skip")
}

// heldStatus says who holds the lock, if that is wanted, and returns the exit
// status for it.
func (h *holdFlags) heldStatus(text string) int {
	if h.ifHeld == ifHeldSkip {
		return exitOK
	}
	if !h.quiet {
		complain("%s", text)
	}
	return int(h.status)
}

// hold is a held lock, with the PID file that it is in, if one is written.
type hold struct {
	lock *lock.Lock
	file *pidfile.File // nil without
}

// acquire takes the lock. keep says whether the file stays, unless the flags
// say otherwise.
func (h *holdFlags) acquire(name lockName, keep bool) (*hold, error) {
	if err := name.prepare(true); err != nil {
		return nil, err
	}
	ctx, cancel := h.timeout.context()
	defer cancel()
	wait := h.waits()
	if !h.noPID {
		opt := &pidfile.Options{Keep: h.keep || keep && !h.remove}
		var f *pidfile.File
		var err error
		if wait {
			f, err = pidfile.Open(ctx, name.path, opt)
		} else {
			f, err = pidfile.TryOpen(name.path, opt)
		}
		if err == nil {
			return &hold{f.Lock(), f}, nil
		}
		if !errors.Is(err, pidfile.ErrDirectory) && !errors.Is(err, pidfile.ErrDevice) {
			return nil, err
		}
		// These are locked, and never written.
	}
	var l *lock.Lock
	var err error
	if wait {
		l, err = lock.Acquire(ctx, name.path, nil)
	} else {
		l, err = lock.TryAcquire(name.path, nil)
	}
	if err != nil {
		return nil, err
	}
	return &hold{lock: l}, nil
}

// write records a PID, if there is a file for it.
func (h *hold) write(pid int) error {
	if h.file == nil {
		return nil
	}
	return h.file.Write(pid)
}

// release frees the lock, for everybody who shares it.
func (h *hold) release() error {
	if h.file == nil {
		return h.lock.Release()
	}
	if err := h.file.Close(); !errors.Is(err, lock.ErrMoved) {
		return err
	}
	return nil // deleted meanwhile: not ours to complain
}
