package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lockrun/lockrun/lock"
	"github.com/lockrun/lockrun/pidfile"
	"golang.org/x/sys/unix"
)

// holdFlags say how the lock is to be had, and for how long it is held.
type holdFlags struct {
	noWait  bool
	wait    bool
	timeout duration
	ifHeld  ifHeldValue
	status  statusValue
	waitFlags
	changed func(name string) bool

	shared    bool
	slots     slotsValue
	more      []string // --lock
	reentrant bool
	jitter    duration
	noPID     bool
	keep      bool
	remove    bool
	mode      modeValue
	pidFile   string // another one, for other tools
	span      spanValue
}

func (h *holdFlags) register(fs *flagSet) {
	h.status = exitHeld
	h.changed = fs.changed
	fs.value(&h.ifHeld, "if-held")
	fs.bool(&h.noWait, "no-wait", "n")
	fs.bool(&h.wait, "wait", "w")
	fs.value(&h.timeout, "timeout", "t")
	fs.value(&h.status, "exit-code", "E")
	h.waitFlags.register(fs)
	fs.bool(&h.shared, "shared")
	fs.value(&h.slots, "slots")
	fs.strings(&h.more, "lock")
	fs.bool(&h.reentrant, "reentrant")
	fs.value(&h.jitter, "jitter")
	fs.bool(&h.noPID, "no-pid")
	fs.bool(&h.keep, "keep")
	fs.bool(&h.remove, "remove")
	fs.value(&h.mode, "mode")
	fs.string(&h.pidFile, "pidfile")
	fs.value(&h.span, "hold")
}

// check returns what is wrong with the flags taken together, and makes the short
// forms what they stand for.
func (h *holdFlags) check() error {
	words := 0
	for _, flag := range []string{"if-held", "no-wait", "wait"} {
		if h.changed(flag) {
			words++
		}
	}
	switch h.ifHeld.word {
	case "":
		h.ifHeld.word = ifHeldFail
		if h.wait {
			h.ifHeld.word = ifHeldWait
		}
	case ifHeldWait:
		if h.ifHeld.bound > 0 && h.timeout.set {
			return fmt.Errorf("--if-held %v and --timeout contradict each other", &h.ifHeld)
		}
	}
	if h.ifHeld.bound > 0 && h.ifHeld.word == ifHeldWait {
		h.timeout = duration{d: h.ifHeld.bound, set: true}
	}
	word := h.ifHeld.word
	switch {
	case words > 1:
		return errors.New("--if-held, --no-wait and --wait contradict each other")
	case h.noWait && h.timeout.set:
		return errors.New("--no-wait and --timeout contradict each other")
	case h.keep && h.remove:
		return errors.New("--keep and --remove contradict each other")
	case word == ifHeldSkip && h.changed("exit-code"):
		return errors.New("--if-held skip and --exit-code contradict each other")
	case h.remove && h.noPID:
		return errors.New("--remove needs a PID file: a file that was locked with --no-pid is never removed")
	case h.shared && h.slots > 0:
		return errors.New("--shared and --slots contradict each other: who has a slot shares LOCK with the others already")
	case h.shared && h.remove:
		return errors.New("--shared and --remove contradict each other: others may hold LOCK too")
	case (h.shared || h.slots > 0 || len(h.more) > 0) && (word == ifHeldReplace || word == ifHeldQueue):
		return fmt.Errorf("--if-held %s is for one lock with one holder, not for --shared, --slots or --lock", word)
	case h.changed("pidfile") && h.pidFile == "":
		return errors.New("--pidfile needs the name of a file")
	case h.reentrant && (h.slots > 0 || len(h.more) > 0):
		return errors.New("--reentrant is for one lock, not for --slots or --lock")
	}
	return nil
}

// waits reports whether a held lock is waited for.
func (h *holdFlags) waits() bool {
	if h.timeout.set {
		return h.timeout.d > 0
	}
	return h.ifHeld.word == ifHeldWait || h.ifHeld.word == ifHeldQueue
}

// showWait shows that wait, if there is to be one.
func (h *holdFlags) showWait(name lockName, catches bool) (end func()) {
	switch {
	case h.ifHeld.word == ifHeldReplace:
		return h.show(name, "waiting for the end of", catches)
	case h.waits():
		return h.show(name, "waiting for", catches)
	}
	return func() {}
}

// heldStatus says who holds the lock, if that is wanted, and returns the exit
// status for it.
func (h *holdFlags) heldStatus(text string) int {
	if h.ifHeld.word == ifHeldSkip {
		return exitOK
	}
	if !h.quiet {
		complain("%s", text)
	}
	return int(h.status)
}

// ifHeldValue is a flag's value: what to do when the lock is held.
type ifHeldValue struct {
	word  string
	bound time.Duration // of wait: at most; of replace: only a holder that old
	most  int           // of queue: how many may wait
}

const (
	ifHeldFail    = "fail"    // say who holds it, exit with 75
	ifHeldSkip    = "skip"    // say nothing, exit with 0
	ifHeldWait    = "wait"    // wait for it
	ifHeldReplace = "replace" // end the holder
	ifHeldQueue   = "queue"   // wait, unless enough others do
)

func (v *ifHeldValue) String() string {
	switch {
	case v.most > 0:
		return v.word + ":" + strconv.Itoa(v.most)
	case v.bound > 0:
		return v.word + ":" + v.bound.String()
	}
	return v.word
}

func (v *ifHeldValue) Set(s string) (err error) {
	word, detail, hasDetail := strings.Cut(s, ":")
	*v = ifHeldValue{word: word}
	switch word {
	case ifHeldFail, ifHeldSkip:
		if !hasDetail {
			return nil
		}
	case ifHeldWait, ifHeldReplace:
		if hasDetail {
			v.bound, err = parseDuration(detail)
		}
		if err == nil && (!hasDetail || v.bound > 0) {
			return nil
		}
	case ifHeldQueue:
		v.most = 1
		if hasDetail {
			v.most, err = strconv.Atoi(detail)
		}
		if err == nil && v.most > 0 && v.most <= mostSlots {
			return nil
		}
	}
	return errors.New("want fail, skip, wait, wait:10m, replace, replace:10m, queue or queue:3")
}

// slotsValue is a flag's number of slots.
type slotsValue int

// mostSlots is more than anybody needs, and few enough files.
const mostSlots = 1000

func (v *slotsValue) Set(s string) error {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > mostSlots {
		return fmt.Errorf("want a number from 1 to %d", mostSlots)
	}
	*v = slotsValue(n)
	return nil
}

// spanValue is a flag's word: for how long the lock is held.
type spanValue string

const (
	spanCommand = "command" // until the command ends
	spanTree    = "tree"    // until every process that shares the lock has ended, as with flock(1)
)

func (v *spanValue) Set(s string) error {
	if s != spanCommand && s != spanTree {
		return errors.New("want command or tree")
	}
	*v = spanValue(s)
	return nil
}

// hold is what is held while the command runs: one lock, or several that were
// taken in this order.
type hold struct {
	name   lockName // the first that was named
	locks  []heldLock
	tree   bool          // see spanTree
	slot   int           // 0 without slots
	waited time.Duration // for all of them

	endCatching func() // see catchWhileWaiting
}

// heldLock is a held lock, with the PID file that it is in, if one is written.
type heldLock struct {
	lock *lock.Lock
	file *pidfile.File // nil without
}

func (l heldLock) release() error {
	if l.file == nil {
		return l.lock.Release()
	}
	if err := l.file.Close(); !errors.Is(err, lock.ErrMoved) {
		return err
	}
	return nil // deleted meanwhile: not ours to complain
}

// write records a PID, if there is a file for it.
func (l heldLock) write(pid int) error {
	if l.file == nil {
		return nil
	}
	return l.file.Write(pid)
}

func (h *hold) write(pid int) error {
	for _, l := range h.locks {
		if err := l.write(pid); err != nil {
			return err
		}
	}
	return nil
}

// inherit makes the command inherit the locks. The files are to be kept open until
// it was started.
func (h *hold) inherit() (files []*os.File, err error) {
	for _, l := range h.locks {
		f, err := l.lock.File()
		if err != nil {
			return files, err
		}
		files = append(files, f)
		if err := clearCloseOnExec(f); err != nil {
			return files, err
		}
	}
	return files, nil
}

// release frees the locks, for everybody who shares them. It may be called again.
func (h *hold) release() (err error) {
	for _, l := range slices.Backward(h.locks) {
		if e := l.release(); e != nil && !errors.Is(e, fs.ErrClosed) {
			err = fmt.Errorf("%s: %s", l.lock.Path(), hint(e))
		}
	}
	h.locks = nil
	return err
}

// leave leaves the locks to those who share them. The PID of a command that has
// ended does not stand for them.
func (h *hold) leave() (err error) {
	for _, l := range h.locks {
		if l.file != nil {
			err = errors.Join(err, l.file.Clear())
		}
	}
	h.locks = nil
	return err
}

// environment is what the command is told of it.
func (h *hold) environment() []string {
	env := []string{fmt.Sprintf("%s=%.3f", waitedVariable, h.waited.Seconds())}
	if h.slot > 0 {
		env = append(env, slotVariable+"="+strconv.Itoa(h.slot))
	}
	return env
}

func clearCloseOnExec(f *os.File) error {
	_, err := unix.FcntlInt(f.Fd(), unix.F_SETFD, 0)
	return os.NewSyscallError("fcntl", err)
}
