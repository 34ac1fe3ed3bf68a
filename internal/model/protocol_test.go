package model

import (
	"math/bits"
	"slices"
)

// place is where a process stands: before which of its steps.
type place uint8

const (
	nowhere place = iota // not started yet, or no such process

	// request.once in lock/acquire.go, by the numbers of its comments.
	atLstat        // 1. os.Lstat
	atOpen         // 1. os.OpenFile in gofrs/flock, with or without O_CREATE|O_EXCL
	atFlock        // 3. take: flock(2)
	atFstat        // 4. f.Stat
	atVerify       // 4. os.Lstat and os.SameFile
	atUnlockMoved  // 4. f.Unlock, errAgain
	atList         // 5. findDeleted: eachProcess in lock/walk_linux.go lists /proc
	atVisit        // 5. findDeleted: eachDescriptor of one process
	atVerifyAgain  // 6. l.verify
	atUnmark       // 7. l.grown: fchmod
	atGiveVerify   // 5. l.Remove: l.verify
	atGiveUnlink   // 5. l.Remove: os.Remove
	atGiveUnlock   // 5. l.Release, heldBy
	atMarkOffFirst // grown, where the fault markOffFirst has it

	// request.try and request.wait.
	atRefusal       // request.refusal
	atOpenDeleted   // wait: opens /proc/PID/fd/N of who holds a deleted file
	atFlockDeleted  // wait: flock(2) on it
	atUnlockDeleted // wait: f.Unlock

	// The lock is had in earnest from here to working.
	held           // TryAcquire or Acquire has returned
	atFork         // supervisor.launch in cmd/lockrun: startProcess
	atRecordChild  // supervisor.launch: File.Write, with the PID of the command
	atEarlyVerify  // File.Remove: Lock.Remove: l.verify
	atEarlyUnlink  // File.Remove: Lock.Remove: os.Remove
	working        // until the work, or the command, has ended
	atCloseVerify  // File.Close: Lock.Remove: l.verify
	atCloseUnlink  // File.Close: Lock.Remove: os.Remove
	atCloseUnlock  // File.Close: Lock.Release
	atOpenedRemove // pidfile.open could not open the file: Lock.Remove: l.verify
	atOpenedUnlink // the same: os.Remove
	atOpenedUnlock // the same: Lock.Release, and starts afresh

	// lock.Inspect and lock.AwaitFree.
	atLook       // openForLook
	atLookWalk   // inspectRecorded, findHolders
	atLookFlock  // tryShared: LOCK_SH|LOCK_NB, or LOCK_SH
	atLookUnlock // LOCK_UN and close

	ending // has no descriptors in /proc any more, but its locks are not free yet

	released // the ends
	refused
	looked
	dead
)

func (at place) ended() bool { return at >= released || at == nowhere }

// earnest reports whether a process believes that it holds the lock: its acquire
// has returned and its release not begun, or it is a command that runs.
func (s *state) earnest(p int) bool {
	at := s.processes[p].at
	return at >= held && at <= working
}

// walkAfter is the one of lock/acquire.go: from the third refusal on whoever is
// found in the walk over all processes is named.
const walkAfter = 2

// start is the state in which everybody is about to begin.
func (m *system) start() (s state) {
	s.deletions = m.deletions
	for p, r := range m.roles {
		switch r.kind {
		case locker:
			s.processes[p].at = atLstat
		case watcher, awaiter:
			s.processes[p].at = atLook
		}
	}
	return s
}

// steps appends all that can happen next.
func (m *system) steps(s *state, out []step) []step {
	if s.deletions > 0 && s.path != 0 {
		next := *s
		next.path = 0
		next.deletions--
		out = append(out, step{-1, "the meddler deletes the file", next, "", true})
	}
	for p := range s.processes {
		at := s.processes[p].at
		if at.ended() {
			continue
		}
		out = m.stepsOf(s, p, out)
		if m.kills && at != ending {
			next := *s
			next.killed = true
			next.processes[p] = process{at: ending, has: s.processes[p].has}
			out = append(out, step{p, "is killed: its descriptors are not in /proc any more", next, "", true})
		}
	}
	return out
}

// stepsOf appends what process p can do next, and nothing while it has to wait.
// In most places that is one thing.
func (m *system) stepsOf(s *state, p int, out []step) []step {
	next := *s
	me, r := &next.processes[p], &m.roles[p]
	mine := uint8(0) // inode of the description that we have
	if me.has != 0 {
		mine = s.descriptions[me.has-1].inode
	}
	does := func(what string, at place) []step {
		me.at = at
		return append(out, step{p, what, next, "", false})
	}
	sees := func(what string, at, otherwise place) []step {
		if s.path == mine {
			return does(what+": the path names our file", at)
		}
		return does(what+": the path does not name our file", otherwise)
	}
	// removes is the first half of Lock.Remove.
	removes := func(who string, at, otherwise place) []step {
		if m.unlinkUnverified {
			out := does(who+", does not verify", at)
			if s.path != 0 && s.path != mine {
				out[len(out)-1].err = "goes on to unlink the file of somebody else"
			}
			return out
		}
		return sees(who+", verifies", at, otherwise)
	}
	again := func(what string) []step {
		next.processes[p] = process{refusals: me.refusals, has: me.has}
		return does(what, atLstat)
	}
	mode := exclusive
	if r.shared {
		mode = shared
	}

	switch me.at {
	case atLstat:
		if me.created = s.path == 0; me.created {
			return does("lstat: no file", atOpen)
		}
		return does("lstat: a file", atOpen)

	case atOpen:
		switch {
		case me.created && s.path != 0:
			return again("open O_CREAT|O_EXCL: EEXIST")
		case me.created:
			next.open(p, next.create())
			next.inodes[next.path].newborn = !m.noMark
			return does("open O_CREAT|O_EXCL: creates it", atFlock)
		case s.path == 0:
			return again("open: ENOENT")
		}
		next.open(p, s.path)
		return does("open", atFlock)

	case atFlock:
		got := next.flock(p, mode)
		switch {
		case got && m.noVerify:
			me.newborn = s.inodes[mine].newborn
			if (me.created || me.newborn) && !m.noLook {
				return does("flock: got it", atList)
			}
			return does("flock: got it", held)
		case got:
			return does("flock: got it", atFstat)
		case !r.wait:
			next.close(p)
			return does("flock LOCK_NB: EWOULDBLOCK, close", atRefusal)
		}
		return m.givesUp(s, p, out)

	case atFstat:
		me.newborn = s.inodes[mine].newborn
		return does("fstat", atVerify)

	case atVerify:
		switch {
		case m.noLook || !me.created && !me.newborn:
			me.created = me.created && r.pidFile
			me.newborn = false
			return sees("verifies", held, atUnlockMoved)
		case m.markOffFirst:
			return sees("verifies", atMarkOffFirst, atUnlockMoved)
		}
		return sees("verifies", atList, atUnlockMoved)

	case atUnlockMoved:
		next.unlock(p)
		return again("LOCK_UN, close: the file changed, starts again")

	case atMarkOffFirst:
		next.inodes[mine].newborn = false
		return does("fchmod: takes the mark off, before it looks", atList)

	case atList:
		// The list is no snapshot: each number is read at its own time.
		return m.list(s, p, out)

	case atVisit:
		return m.visit(s, p, out)

	case atVerifyAgain:
		return sees("verifies after the look", atUnmark, atUnlockMoved)

	case atUnmark:
		if !me.others || m.marksOffShared {
			next.inodes[mine].newborn = false
		}
		me.newborn, me.others = false, false
		me.created = me.created && r.pidFile
		return does("fchmod: takes the mark off; has acquired", held)

	case atGiveVerify:
		return removes("gives way", atGiveUnlink, atGiveUnlock)
	case atGiveUnlink:
		return m.unlink(s, p, mine, atGiveUnlock, out)
	case atGiveUnlock:
		next.unlock(p)
		next.processes[p] = process{refusals: me.refusals, found: me.found}
		if r.wait {
			return does("gives way: LOCK_UN, close", atOpenDeleted)
		}
		return does("gives way: LOCK_UN, close", atRefusal)

	case atRefusal:
		return m.refusal(s, p, out)

	case atOpenDeleted:
		d, ok := s.visible(int(me.found) - 1)
		if !ok {
			return again("opens /proc/PID/fd/N: ENOENT, starts again")
		}
		next.open(p, d.inode)
		return does("opens /proc/PID/fd/N, the deleted file", atFlockDeleted)
	case atFlockDeleted:
		if next.flock(p, mode) {
			return does("flock on the deleted file: got it", atUnlockDeleted)
		}
		return m.givesUp(s, p, out)
	case atUnlockDeleted:
		next.unlock(p)
		return again("LOCK_UN, close: the deleted file is free, starts again")

	case held:
		next.ran = true
		created := me.created
		*me = process{has: me.has}
		switch {
		case r.pidFile && s.path != mine:
			me.created = created
			if created {
				return does("pidfile.open: ENOENT or ErrMoved", atOpenedRemove)
			}
			return does("pidfile.open: ENOENT or ErrMoved", atOpenedUnlock)
		case r.pidFile:
			next.inodes[mine].recorded = uint8(p) + 1
		}
		switch {
		case r.child != 0:
			return does("records its PID", atFork)
		case r.remove == before:
			return does("records its PID", atEarlyVerify)
		}
		return does("records its PID, works", working)

	case atFork:
		m.fork(&next, p, r.child)
		if r.pidFile {
			return does("forks the command", atRecordChild)
		}
		return does("forks the command", working)

	case atOpenedRemove:
		return removes("Remove", atOpenedUnlink, atOpenedUnlock)
	case atOpenedUnlink:
		return m.unlink(s, p, mine, atOpenedUnlock, out)
	case atOpenedUnlock:
		next.unlock(p)
		return again("Release: LOCK_UN, close; starts afresh")

	case atRecordChild:
		next.inodes[mine].recorded = r.child + 1
		return does("records the PID of the command", working)

	case atEarlyVerify:
		return removes("Remove", atEarlyUnlink, working)
	case atEarlyUnlink:
		return m.unlink(s, p, mine, working, out)

	case working:
		switch {
		case r.kind == inheritor || r.remove == before:
			*me = process{has: me.has}
			if r.child == 0 || s.processes[r.child].at != nowhere {
				return does("ends: its descriptors are not in /proc any more", ending)
			}
			m.fork(&next, p, r.child)
			return does("forks and goes on", working)
		case r.child != 0 && s.processes[r.child].at != dead:
			return out
		case r.remove == atRelease && m.unlockFirst:
			next.descriptions[me.has-1].lock = unlocked
			return does("Close: LOCK_UN, and the file is not removed yet", atCloseVerify)
		case r.remove == atRelease:
			return does("has done its work", atCloseVerify)
		}
		return does("has done its work", atCloseUnlock)

	case atCloseVerify:
		return removes("Close", atCloseUnlink, atCloseUnlock)
	case atCloseUnlink:
		return m.unlink(s, p, mine, atCloseUnlock, out)
	case atCloseUnlock:
		next.unlock(p)
		*me = process{}
		return does("Close: LOCK_UN, close", released)

	case atLook:
		if s.path == 0 {
			return does("open: no file", looked)
		}
		next.open(p, s.path)
		if r.kind == awaiter {
			return does("open", atLookFlock)
		}
		return does("open", atLookWalk)
	case atLookWalk:
		for q := range s.processes {
			if d, ok := s.visible(q); ok && d.inode == mine {
				seen := next
				seen.end(p, looked)
				out = append(out, step{p, "sees a holder, close", seen, "", false})
				break
			}
		}
		return does("sees no holder", atLookFlock)
	case atLookFlock:
		switch {
		case next.flock(p, shared):
			return does("flock LOCK_SH: got it", atLookUnlock)
		case r.kind == awaiter:
			return out
		}
		next.end(p, looked)
		return does("flock LOCK_SH|LOCK_NB: EWOULDBLOCK, close", looked)
	case atLookUnlock:
		next.unlock(p)
		return does("LOCK_UN, close", looked)

	case ending:
		next.end(p, dead)
		return does("is dead: its files are closed", dead)
	}
	panic("nowhere to go from here")
}

// givesUp is what a process can do that waits: to stop it, if its context ends.
func (m *system) givesUp(s *state, p int, out []step) []step {
	if !m.roles[p].hasty {
		return out
	}
	next := *s
	next.killed = true
	next.end(p, refused)
	return append(out, step{p, "stops waiting: its context has ended", next, "", true})
}

// list reads one number from /proc. Those of lockers and watchers are there from
// the beginning, so only those of children have to be read.
func (m *system) list(s *state, p int, out []step) []step {
	next := *s
	me := &next.processes[p]
	what := "lists /proc"
	if int(me.cursor) < len(m.children) {
		c := m.children[me.cursor]
		if at := s.processes[c].at; at != nowhere && at != dead {
			me.listed |= 1 << me.cursor
			what = "lists /proc: the child " + string(rune('A'+c)) + " is there"
		} else {
			what = "lists /proc: the child " + string(rune('A'+c)) + " is not there"
		}
		me.cursor++
	}
	if int(me.cursor) >= len(m.children) {
		me.cursor = 0
		me.at = atVisit
		if me.again && me.listed&^me.seen == 0 {
			if me.anew && !m.anewUnseen {
				me.at, me.listed = atList, 0
			} else {
				m.lookEnds(me)
			}
		}
		me.anew = false
	}
	return append(out, step{p, what, next, "", false})
}

// visit looks at one process, and on its way back to the list or on to what
// comes after the look.
func (m *system) visit(s *state, p int, out []step) []step {
	next := *s
	me := &next.processes[p]
	var q int
	if me.again || me.cursor == maxProcesses {
		n := bits.TrailingZeros8(me.listed &^ me.seen)
		me.seen |= 1 << n
		q = int(m.children[n])
	} else {
		q = int(me.cursor)
		me.cursor = uint8(m.nextVisit(q + 1))
	}
	what := "looks at process " + string(rune('A'+q))
	own := s.descriptions[me.has-1].inode
	if d, ok := s.visible(q); ok && d.inode != s.path && d.inode != own {
		what += ": it holds a deleted file"
		if d.lock == exclusive || !m.roles[p].shared {
			*me = process{at: atGiveVerify, has: me.has, created: me.created, found: uint8(q) + 1, refusals: me.refusals}
			return append(out, step{p, what, next, "", false})
		}
		me.others = true
	} else {
		what += ": nothing"
	}
	if (me.again || me.cursor == maxProcesses) && me.listed&^me.seen == 0 {
		switch {
		case len(m.children) == 0 || m.listOnce:
			m.lookEnds(me)
		default:
			me.at, me.cursor, me.listed, me.again = atList, 0, 0, true
		}
	}
	return append(out, step{p, what, next, "", false})
}

// nextVisit returns the first process from q on that is no child. The children
// come after them.
func (m *system) nextVisit(q int) int {
	for ; q < maxProcesses; q++ {
		if k := m.roles[q].kind; k == locker || m.watches(q) {
			return q
		}
	}
	return maxProcesses
}

// lookEnds goes on after a look that found nobody.
func (m *system) lookEnds(me *process) {
	*me = process{at: atVerifyAgain, has: me.has, created: me.created, newborn: me.newborn, others: me.others, refusals: me.refusals}
	if m.noSecondVerify {
		me.at = atUnmark
	}
}

// unlink removes what the path names, which others may have changed since.
func (m *system) unlink(s *state, p int, mine uint8, then place, out []step) []step {
	next := *s
	next.processes[p].at = then
	st := step{process: p, what: "unlink: ENOENT"}
	if s.path != 0 {
		st.what = "unlink"
		next.path = 0
	}
	if s.path != 0 && s.path != mine {
		st.what = "unlink: it is the file of somebody else"
		next.inodes[s.path].robbed = true
		if m.deletions == 0 {
			st.err = "the file of somebody else was unlinked"
		}
		for q := range s.processes {
			if has := s.processes[q].has; s.earnest(q) && s.descriptions[has-1] == (description{s.path, exclusive}) {
				st.err = "the file of a holder was unlinked"
			}
		}
	}
	st.next = next
	return append(out, st)
}

// refusal is request.refusal, and what request.try does with it. An attempt
// without a holder to name is repeated for ever here: 25 ms are taken for longer
// than anybody looks, dies, or needs from the lock to the record.
func (m *system) refusal(s *state, p int, out []step) []step {
	me := &s.processes[p]
	walk := me.refusals >= walkAfter
	refuse := func(q int) {
		next := *s
		next.end(p, refused)
		st := step{p, "is refused, and names " + string(rune('A'+q)), next, "", false}
		if m.watches(q) {
			st.err = "refused because of somebody who only looks"
		}
		out = append(out, st)
	}
	retry := func() []step {
		next := *s
		next.processes[p] = process{at: atLstat, refusals: min(me.refusals+1, walkAfter)}
		return append(out, step{p, "is refused, has nobody to name, waits a moment", next, "", false})
	}

	if m.impatient {
		next := *s
		next.end(p, refused)
		st := step{p, "is refused, and names nobody", next, "refused while nobody but those who look had the lock", false}
		for q := range s.processes {
			if d, _ := s.visible(q); d.lock == exclusive || s.processes[q].at == ending {
				st.err = ""
			}
		}
		return append(out, st)
	}
	if me.found != 0 { // carrier.describe
		q := int(me.found) - 1
		d, holds := s.visible(q)
		holds = holds && d.inode != s.path
		if holds {
			if r := int(s.inodes[d.inode].recorded) - 1; r >= 0 {
				if e, ok := s.visible(r); ok && e.inode == d.inode {
					refuse(r)
					return out
				}
			}
		}
		if walk && (holds || m.nameGone) && (!m.watches(q) || m.nameWatchers) {
			refuse(q)
			return out
		}
		return retry()
	}
	if s.path == 0 { // holderOf
		return retry()
	}
	if r := int(s.inodes[s.path].recorded) - 1; r >= 0 {
		if d, ok := s.visible(r); ok && d.inode == s.path {
			refuse(r)
			return out
		}
	}
	if walk { // findAny, which may come to a process too early or too late
		for q := range s.processes {
			if _, ok := s.visible(q); ok && (!m.watches(q) || m.nameWatchers) {
				refuse(q)
			}
		}
	}
	return retry()
}

// watches reports whether a process has its lock only to see whether it is free.
// It is shared, and not recorded, and such a one is believed only at the end of
// request.try's patience.
func (m *system) watches(p int) bool { return m.roles[p].watches() }

func (r role) watches() bool { return r.kind == watcher || r.kind == awaiter }

// wrong says what is wrong with a state, if anything is.
func (m *system) wrong(s *state) string {
	var holder uint8 // its description, plus 1
	for p := range s.processes {
		if !s.earnest(p) {
			continue
		}
		has := s.processes[p].has
		switch {
		case has == 0:
			return "a holder has no description"
		case s.descriptions[has-1].lock == unlocked && m.leftBehind(p):
			// When the command has ended, the lock is free for others.
			continue
		case s.descriptions[has-1].lock == unlocked:
			return "a holder has lost its lock"
		case s.inodes[s.descriptions[has-1].inode].robbed && s.descriptions[has-1].lock == exclusive:
			// A shared one does not look for other shared ones, which may give
			// way at this moment. Whoever comes next looks.
			return "a holder's file was unlinked by somebody who held another one"
		case holder == 0:
			holder = has
		case holder != has && (s.descriptions[has-1].lock == exclusive || s.descriptions[holder-1].lock == exclusive):
			return "two hold the lock"
		}
	}
	return ""
}

// leftBehind reports whether a process was forked by the command and not by its
// supervisor.
func (m *system) leftBehind(p int) bool {
	return slices.ContainsFunc(m.roles[:], func(r role) bool { return r.kind == inheritor && int(r.child) == p && p != 0 })
}

// allEnded reports whether nothing more will happen but a deletion.
func (s *state) allEnded() bool {
	return !slices.ContainsFunc(s.processes[:], func(p process) bool { return !p.at.ended() })
}

// wrongEnd says what is wrong with a state in which everybody has ended.
func (m *system) wrongEnd(s *state) string {
	if !s.killed {
		if !s.ran {
			return "all were refused, and nobody ran"
		}
		// With two exceptions, both of which leave the mark on the file. Who
		// created it, and lost the lock on it to somebody who only looks, can't
		// remove it. And shared locks keep the mark for others.
		if s.inodes[s.path].newborn && !slices.ContainsFunc(m.roles[:], func(r role) bool { return r.watches() || r.shared }) {
			return "a refused one has left the file that it created"
		}
	}
	// Somebody comes, and nobody is in the way.
	fresh := *s
	last := *m
	last.roles[0] = role{kind: locker}
	last.kills = false
	fresh.processes[0] = process{at: atLstat}
	fresh.deletions = 0
	for range 50 {
		steps := last.stepsOf(&fresh, 0, nil)
		if len(steps) != 1 {
			break
		}
		if fresh = steps[0].next; fresh.processes[0].at == held {
			return ""
		}
	}
	return "nobody holds the lock, and a fresh attempt is refused"
}
