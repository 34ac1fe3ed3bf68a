package pidfile

import (
	"github.com/lockrun/lockrun/lock"
)

// State says what a PID file tells of its program.
type State int

const (
	Unknown State = iota // it can't be told; Inspect's error says why
	Absent               // nothing runs, and no PID is left
	Stale                // nothing runs, and a PID is left
	Running              // the lock is held
)

func (s State) String() string {
	return [...]string{"unknown", "absent", "stale", "running"}[s]
}

// Status is what Inspect saw.
type Status struct {
	State State

	// PID is the number in the file, 0 if there is none that a process can
	// have. Unless Holder.Recorded, that process is not the one that runs.
	PID int

	// Holder is a process that holds the lock, when Running: preferably the
	// recorded one, with PID 0 if none can be seen.
	Holder lock.Holder
}

// Inspect tells whether the program of the PID file path runs: whether the file
// is locked. It never changes or removes the file. If the State is Unknown the
// error says why.
func Inspect(path string) (Status, error) {
	in, err := lock.Inspect(path)
	return statusOf(in), err
}

// InspectAll is Inspect for many files; results and errors stand in the order of
// the paths. It is much faster than to ask for each.
func InspectAll(paths []string) ([]Status, []error) {
	all, errs := lock.InspectAll(paths)
	statuses := make([]Status, len(all))
	for i, in := range all {
		statuses[i] = statusOf(in)
	}
	return statuses, errs
}

func statusOf(in lock.Inspection) Status {
	s := Status{PID: in.PID, Holder: in.Holder}
	switch {
	case in.State == lock.Held:
		s.State = Running
	case in.State == lock.Unknown:
		s.State = Unknown
	case in.PID != 0:
		s.State = Stale
	default:
		s.State = Absent
	}
	return s
}
