// Package model checks the protocol of the lock file: every order in which the
// system calls of some processes can follow each other, with a meddler who
// deletes the file and a SIGKILL for anybody at any time. It is a test, and
// nothing of it is built into a program.
//
// This file is the machine: files, descriptions with their locks, processes.
// protocol_test.go has the steps of a process, in the words and under the numbers
// of lock/acquire.go, and says what is wrong with a state. explore_test.go visits
// all states, and model_test.go says who takes part.
//
// Where the machine can do less than the real one:
//
//   - One lock file, and the processes may look at each other.
//   - What is done with a descriptor, and nobody else can see, is one step with
//     the call before it.
//   - A refused attempt is repeated for ever if it can't name a holder. So 25 ms
//     are taken for longer than somebody looks, starts or dies.
//
// And where it can do more: who waits in flock(2) is served in any order, a file
// that nobody has open any more gives its number to the next one at once, and
// between a kill and the moment at which the locks are free anything can happen.
package model

import (
	"fmt"
	"slices"
)

// A state is all that matters of a small machine with one lock file: what the
// path names, the inodes, the open file descriptions with their locks, and where
// each process stands. It is small on purpose: it is visited millions of times.
type state struct {
	path   uint8 // inode that the path names, 0 for none
	inodes [maxInodes + 1]inode
	// descriptions[p] is the open file description that process p opened; no
	// process has two at a time. Others may share it, and it is open as long as
	// one of them lives.
	descriptions [maxProcesses]description
	processes    [maxProcesses]process

	deletions uint8 // that the meddler has left
	killed    bool  // somebody was killed, or a wait was given up
	ran       bool  // somebody had the lock in earnest
}

const (
	maxProcesses = 6
	maxInodes    = 7 // one for each description, and one at the path
	maxChildren  = 3
)

// inode is a file. Its number is given to another one when no name and no
// description is left, as a file system does it.
type inode struct {
	newborn  bool  // the sticky bit, see acquire.go
	recorded uint8 // process that stands in it, plus 1; 0 for none
	robbed   bool  // its name was unlinked by a process that had another one locked
}

type description struct {
	inode uint8 // 0 when closed
	lock  uint8
}

// Kinds of locks, as flock(2) has them.
const (
	unlocked uint8 = iota
	shared
	exclusive
)

// process is where a process stands, and its local variables.
type process struct {
	at      place
	created bool // as in request.once
	newborn bool // what fstat said of the mark

	// The walk of eachProcess. Bits are children, by their place in the order
	// in which /proc lists them.
	again        bool // not the first list
	anew         bool // since this one began, the numbers have begun anew
	cursor       uint8
	listed, seen uint8

	others   bool  // findDeleted has seen who is in somebody else's way
	found    uint8 // carrier of a deleted file that was seen, plus 1
	refusals uint8 // as in request.try, but never more than walkAfter
	has      uint8 // whose description it has open, plus 1
}

// role is what a process is there for.
type role struct {
	kind    kind
	wait    bool  // Acquire, else TryAcquire
	shared  bool  // Options.Shared
	hasty   bool  // its context can end while it waits
	pidFile bool  // pidfile.Open and Close, else lock.TryAcquire and Release
	remove  when  // Remove
	child   uint8 // process that it forks while it holds the lock; 0 for none
}

type kind uint8

const (
	absent    kind = iota
	locker         // takes the lock, works and releases it
	watcher        // lockrun status: lock.Inspect
	awaiter        // lockrun wait: lock.Open and AwaitFree
	inheritor      // a child that has the description of its parent
)

type when uint8

const (
	never     when = iota
	atRelease      // File.Close
	before         // File.Remove, as AtExit does it; then the process goes on for a while
)

// faults are precautions that are left out.
type faults struct {
	noVerify         bool // step 4 is left out
	noLook           bool // step 5 is left out
	noMark           bool // files are born without the mark, so only who created looks
	markOffFirst     bool // the mark is taken off before the look
	listOnce         bool // /proc is listed once
	anewUnseen       bool // nobody looks whether the numbers have begun anew
	marksOffShared   bool // a shared lock that saw another one takes the mark off
	noSecondVerify   bool // step 6 is left out
	unlockFirst      bool // Remove comes after LOCK_UN
	unlinkUnverified bool // Remove does not look what the path names
	impatient        bool // a refusal without a holder to name is final
	nameGone         bool // a refusal names whoever held a deleted file, though not any more
	nameWatchers     bool // a refusal names who has a shared lock for a moment
}

// system is what does not change: who takes part, and what is wrong.
type system struct {
	faults
	roles     [maxProcesses]role
	children  []uint8 // in the order in which /proc lists them
	deletions uint8
	kills     bool // any process can be killed at any step
}

// step is one atomic step: a system call, or something that happens to a process.
type step struct {
	process int // -1 is the meddler
	what    string
	next    state
	err     string // what is wrong with it
	force   bool   // nobody can count on its happening: a kill, a deletion, a deadline
}

// visible is the description that /proc shows of a process: of one that ends,
// none, even before its locks are free.
func (s *state) visible(p int) (d description, ok bool) {
	has := s.processes[p].has
	if has == 0 || s.processes[p].at == ending {
		return description{}, false
	}
	d = s.descriptions[has-1]
	return d, d.lock != unlocked
}

// open gives a process a description of its own.
func (s *state) open(p int, i uint8) {
	s.descriptions[p] = description{inode: i}
	s.processes[p].has = uint8(p) + 1
}

// create makes a file at the path.
func (s *state) create() uint8 {
	for i := uint8(1); i <= maxInodes; i++ {
		if !s.inUse(i) {
			s.inodes[i] = inode{newborn: true}
			s.path = i
			return i
		}
	}
	panic("no inode is left")
}

func (s *state) inUse(i uint8) bool {
	if s.path == i {
		return true
	}
	for p := range s.descriptions {
		if s.descriptions[p].inode == i {
			return true
		}
	}
	return false
}

// flock locks the description of process p, if it can.
func (s *state) flock(p int, kind uint8) bool {
	mine := s.processes[p].has - 1
	i := s.descriptions[mine].inode
	for d, other := range s.descriptions {
		if d != int(mine) && other.inode == i && other.lock != unlocked && (kind == exclusive || other.lock == exclusive) {
			return false
		}
	}
	s.descriptions[mine].lock = kind
	return true
}

// unlock is LOCK_UN, which is for everybody who shares the description, and
// close. Nobody can tell whether a moment is between the two.
func (s *state) unlock(p int) {
	s.descriptions[s.processes[p].has-1].lock = unlocked
	s.close(p)
}

// fork makes child n of process p, which shares its description. Numbers are given in
// the order in which /proc lists the children, so who has a lower one than its parent
// got it when the numbers had begun anew.
func (m *system) fork(s *state, p int, n uint8) {
	if slices.Index(m.children, n) < slices.Index(m.children, uint8(p)) {
		for q := range s.processes {
			s.processes[q].anew = s.processes[q].at == atList && s.processes[q].cursor > 0
		}
	}
	s.processes[n] = process{at: working, has: s.processes[p].has}
}

// close closes the description of a process, and the lock is free if it was the
// last one.
func (s *state) close(p int) {
	has := s.processes[p].has
	s.processes[p].has = 0
	if has == 0 {
		return
	}
	for q := range s.processes {
		if s.processes[q].has == has {
			return
		}
	}
	s.descriptions[has-1] = description{}
}

// end leaves nothing of a process but the fact that, and how, it ended.
func (s *state) end(p int, how place) {
	s.close(p)
	s.processes[p] = process{at: how}
}

// tidy gives the inodes numbers in the order in which they are found, so that
// states which differ only in those are one.
func (s *state) tidy() {
	var number [maxInodes + 1]uint8
	var inodes [maxInodes + 1]inode
	n := uint8(0)
	rename := func(i uint8) uint8 {
		if i != 0 && number[i] == 0 {
			n++
			number[i] = n
			inodes[n] = s.inodes[i]
		}
		return number[i]
	}
	s.path = rename(s.path)
	for p := range s.descriptions {
		s.descriptions[p].inode = rename(s.descriptions[p].inode)
	}
	s.inodes = inodes
}

// key is a state in little room.
type key [1 + maxInodes + maxProcesses + 5*maxProcesses]byte

func bit(b bool, n int) byte {
	if b {
		return 1 << n
	}
	return 0
}

func (s *state) pack() (k key) {
	k[0] = s.path | s.deletions<<3 | bit(s.killed, 6) | bit(s.ran, 7)
	at := k[1:]
	for i, f := range s.inodes[1:] {
		at[i] = bit(f.newborn, 0) | bit(f.robbed, 1) | f.recorded<<2
	}
	at = at[maxInodes:]
	for p, d := range s.descriptions {
		at[p] = d.inode | d.lock<<4
	}
	at = at[maxProcesses:]
	for _, p := range s.processes {
		at[0] = byte(p.at)
		at[1] = bit(p.created, 0) | bit(p.newborn, 1) | bit(p.again, 2) | p.refusals<<3 | bit(p.others, 5) | bit(p.anew, 6)
		at[2] = p.cursor | p.found<<4
		at[3] = p.listed | p.seen<<4
		at[4] = p.has
		at = at[5:]
	}
	return k
}

func (k *key) unpack() (s state) {
	s.path, s.deletions, s.killed, s.ran = k[0]&7, k[0]>>3&7, k[0]&(1<<6) != 0, k[0]&(1<<7) != 0
	at := k[1:]
	for i := range s.inodes[1:] {
		s.inodes[i+1] = inode{newborn: at[i]&1 != 0, robbed: at[i]&2 != 0, recorded: at[i] >> 2}
	}
	at = at[maxInodes:]
	for p := range s.descriptions {
		s.descriptions[p] = description{inode: at[p] & 15, lock: at[p] >> 4}
	}
	at = at[maxProcesses:]
	for p := range s.processes {
		s.processes[p] = process{
			at:      place(at[0]),
			created: at[1]&1 != 0, newborn: at[1]&2 != 0, again: at[1]&4 != 0, refusals: at[1] >> 3 & 3, others: at[1]&(1<<5) != 0, anew: at[1]&(1<<6) != 0,
			cursor: at[2] & 15, found: at[2] >> 4,
			listed: at[3] & 15, seen: at[3] >> 4,
			has: at[4],
		}
		at = at[5:]
	}
	return s
}

func (s *state) String() string {
	text := fmt.Sprintf("path names inode %d;", s.path)
	for p := range s.processes {
		if d := s.processes[p]; d.has != 0 {
			c := s.descriptions[d.has-1]
			text += fmt.Sprintf(" %c has inode %d, %s;", 'A'+p, c.inode, [...]string{"not locked", "shared", "locked"}[c.lock])
		}
	}
	return text
}
