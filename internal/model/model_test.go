package model

import (
	"os"
	"strings"
	"testing"
)

// The programs that take part. All but the last two take an exclusive lock.
var (
	// lockrun start PATH, and a Go program with pidfile.Hold
	daemon = role{kind: locker, pidFile: true, remove: atRelease}
	// the same, but waits
	waiting = role{kind: locker, pidFile: true, remove: atRelease, wait: true}
	// lockrun -t 1m PATH, which may not want to wait for so long
	hasty = role{kind: locker, pidFile: true, wait: true, hasty: true}
	// lockrun PATH, which leaves the file
	keeping = role{kind: locker, pidFile: true}
	// lock.TryAcquire alone; the file stays, and nothing stands in it
	bare = role{kind: locker}
	// a Go program that ends by a signal: the file is removed, the lock goes
	// with the process
	atExit = role{kind: locker, pidFile: true, remove: before}

	sharing = role{kind: locker, shared: true}
	status  = role{kind: watcher}
	await   = role{kind: awaiter}
)

// commandOf is lockrun with a command: process n, whose role is inherits.
func commandOf(r role, n uint8) role {
	r.child = n
	return r
}

var inherits = role{kind: inheritor}

// among makes a system of these programs. Children come last, and get numbers
// in their order.
func among(deletions int, roles ...role) system {
	m := system{kills: true, deletions: uint8(deletions)}
	copy(m.roles[:], roles)
	for p, r := range roles {
		if r.kind == inheritor {
			m.children = append(m.children, uint8(p))
		}
	}
	return m
}

// TestProtocol: the protocol as it is keeps its promises, whatever happens in
// whatever order.
func TestProtocol(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		full bool // only with LOCKRUN_TEST_FULL
		system
	}{
		{name: "three daemons", system: among(0, daemon, daemon, daemon)},
		{name: "two daemons, two deletions", system: among(2, daemon, daemon)},
		{name: "a daemon, one that waits, one that keeps the file", system: among(1, daemon, waiting, keeping)},
		{name: "those who wait", system: among(1, daemon, waiting, hasty)},
		{name: "bare locks", system: among(1, bare, bare)},
		{name: "clean-up at a signal", system: among(1, atExit, waiting)},
		{name: "shared locks", system: among(2, sharing, sharing)},
		{name: "a shared and an exclusive lock", system: among(2, sharing, daemon)},
		{name: "a command", system: among(1, commandOf(daemon, 2), daemon, inherits)},
		{name: "a command that goes into the background", system: among(1, commandOf(daemon, 2), daemon, commandOf(inherits, 3), inherits)},
		{name: "a command that goes into the background with lower numbers", system: among(1, commandOf(daemon, 3), daemon, inherits, commandOf(inherits, 2))},
		{name: "the same, twice", system: among(1, commandOf(daemon, 4), daemon, inherits, commandOf(inherits, 2), commandOf(inherits, 3))},
		{name: "a command, and those who look", system: among(0, commandOf(daemon, 4), daemon, status, await, inherits)},
		{name: "a command, one that waits, and status", system: among(1, commandOf(keeping, 3), waiting, status, inherits)},

		{name: "three and status", full: true, system: among(1, daemon, waiting, keeping, status)},
		{name: "three, one with a command, two deletions", full: true, system: among(2, commandOf(daemon, 3), waiting, keeping, inherits)},
		{name: "three bare locks", full: true, system: among(1, bare, bare, daemon)},
		{name: "clean-up at a signal, and two more", full: true, system: among(2, atExit, daemon, waiting)},
		{name: "two shared locks and an exclusive one", full: true, system: among(1, sharing, sharing, daemon)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.full && os.Getenv("LOCKRUN_TEST_FULL") == "" {
				t.Skip("takes minutes and gigabytes; set LOCKRUN_TEST_FULL")
			}
			if !tc.full { // one large one at a time is enough for the memory
				t.Parallel()
			}
			if wrong := tc.run(t); wrong != nil {
				t.Errorf("%s", numbered(wrong))
			}
		})
	}
}

// TestFaults: without any one of its precautions the protocol is found wrong. With
// -v it says how, step by step.
func TestFaults(t *testing.T) {
	t.Parallel()
	const (
		two      = "two hold the lock"
		nobody   = "all were refused, and nobody ran"
		unlinked = "the file of somebody else"
		nameless = "a holder's file was unlinked by somebody who held another one"
		looks    = "refused because of somebody who only looks"
		onlyLook = "refused while nobody but those who look had the lock"
	)
	for _, tc := range []struct {
		name string
		faults
		system
		want string
	}{
		{"no verify", faults{noVerify: true}, among(0, daemon, waiting, daemon), two},
		{"no look", faults{noLook: true}, among(1, daemon, daemon), two},
		{"no mark", faults{noMark: true}, among(1, daemon, daemon, daemon), two},
		{"mark off before the look", faults{markOffFirst: true}, among(1, daemon, daemon, daemon), two},
		{"mark off by a shared lock", faults{marksOffShared: true}, among(1, sharing, sharing, daemon), two},
		{"one list of /proc", faults{listOnce: true}, among(1, commandOf(daemon, 2), daemon, inherits), two},
		{"numbers that begin anew", faults{anewUnseen: true}, among(1, commandOf(daemon, 3), daemon, inherits, commandOf(inherits, 2)), two},
		{"no second verify", faults{noSecondVerify: true}, among(1, daemon, daemon), nameless},
		{"unlock before unlink", faults{unlockFirst: true}, among(0, daemon, daemon, daemon), unlinked},
		{"unlink without verify", faults{unlinkUnverified: true}, among(1, daemon, daemon), unlinked},
		{"no patience", faults{impatient: true}, among(0, daemon, status), onlyLook},
		{"status is named", faults{nameWatchers: true}, among(0, daemon, status), looks},
		{"one who has let go is named", faults{nameGone: true}, among(1, daemon, daemon), nobody},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			tc.system.faults = tc.faults
			wrong := tc.run(t)
			if wrong == nil {
				t.Fatal("not found to be wrong")
			}
			t.Logf("%d steps:%s", len(wrong)-1, numbered(wrong))
			if !strings.Contains(wrong[len(wrong)-1], tc.want) {
				t.Errorf("want %s", tc.want)
			}
		})
	}
}
