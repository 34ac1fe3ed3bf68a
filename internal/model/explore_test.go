package model

import (
	"fmt"
	"hash/maphash"
	"strings"
	"testing"
	"time"
)

// explorer visits every state that can be reached, the nearest ones first, so
// that what it finds wrong it finds by the shortest way.
type explorer struct {
	*system
	states []key
	parent []uint32

	// goesOn[from[i]:from[i+1]] are the states to which state i goes by itself,
	// without a kill or a deletion.
	goesOn []uint32
	from   []uint32

	table []uint32 // of states, plus 1, by hash
	seed  maphash.Seed
}

// explore reports the way to the first state that is wrong, nil if none is.
func (m *system) explore(most int) (e *explorer, wrong []string) {
	e = &explorer{system: m, seed: maphash.MakeSeed(), table: make([]uint32, 1<<16)}
	start := m.start()
	start.tidy()
	e.add(start.pack(), 0)
	var steps []step
	for i := 0; i < len(e.states); i++ {
		if i > most {
			panic(fmt.Sprintf("more than %d states", most))
		}
		s := e.states[i].unpack()
		e.from = append(e.from, uint32(len(e.goesOn)))
		steps = m.steps(&s, steps[:0])
		for j := range steps {
			next := &steps[j]
			err := next.err
			if err == "" {
				err = m.wrong(&next.next)
			}
			if err == "" && next.next.allEnded() {
				err = m.wrongEnd(&next.next)
			}
			if err != "" {
				return e, append(e.wayTo(uint32(i)), next.String(), "wrong: "+err)
			}
			next.next.tidy()
			n := e.add(next.next.pack(), uint32(i))
			if !next.force {
				e.goesOn = append(e.goesOn, n)
			}
		}
	}
	e.from = append(e.from, uint32(len(e.goesOn)))
	if i, ok := e.stuck(); ok {
		s := e.states[i].unpack()
		return e, append(e.wayTo(i), "wrong: from here not all can end: "+s.String())
	}
	return e, nil
}

// add returns the number of a state.
func (e *explorer) add(k key, parent uint32) uint32 {
	if 2*len(e.states) >= len(e.table) {
		e.table = make([]uint32, 2*len(e.table))
		for i := range e.states {
			*e.slot(&e.states[i]) = uint32(i) + 1
		}
	}
	slot := e.slot(&k)
	if *slot == 0 {
		e.states = append(e.states, k)
		e.parent = append(e.parent, parent)
		*slot = uint32(len(e.states))
	}
	return *slot - 1
}

func (e *explorer) slot(k *key) *uint32 {
	mask := uint64(len(e.table) - 1)
	for h := maphash.Bytes(e.seed, k[:]) & mask; ; h = (h + 1) & mask {
		if n := e.table[h]; n == 0 || e.states[n-1] == *k {
			return &e.table[h]
		}
	}
}

// stuck looks for a state from which there is no way to an end of all: a
// deadlock, or a circle that nobody can leave. If there is none, all end as long
// as nobody is put off for ever (a scheduler that throws dice is enough).
func (e *explorer) stuck() (uint32, bool) {
	canEnd := make([]bool, len(e.states))
	for changed := true; changed; {
		changed = false
		for i := len(e.states) - 1; i >= 0; i-- {
			if canEnd[i] {
				continue
			}
			for _, n := range e.goesOn[e.from[i]:e.from[i+1]] {
				if canEnd[n] {
					canEnd[i] = true
					break
				}
			}
			if !canEnd[i] {
				s := e.states[i].unpack()
				canEnd[i] = s.allEnded()
			}
			changed = changed || canEnd[i]
		}
	}
	for i, ok := range canEnd {
		if !ok {
			return uint32(i), true
		}
	}
	return 0, false
}

// wayTo returns the steps that lead to a state.
func (e *explorer) wayTo(i uint32) []string {
	if i == 0 {
		return nil
	}
	from := e.states[e.parent[i]].unpack()
	for _, next := range e.steps(&from, nil) {
		what := next.String()
		next.next.tidy()
		if next.next.pack() == e.states[i] {
			return append(e.wayTo(e.parent[i]), what)
		}
	}
	panic("no way to a state that was reached")
}

func (s step) String() string {
	if s.process < 0 {
		return s.what
	}
	return string(rune('A'+s.process)) + " " + s.what
}

// run explores a system and says how large it was.
func (m *system) run(t *testing.T) (wrong []string) {
	t.Helper()
	begin := time.Now()
	e, wrong := m.explore(100_000_000)
	t.Logf("%d states in %v", len(e.states), time.Since(begin).Round(time.Millisecond))
	return wrong
}

func numbered(way []string) string {
	var b strings.Builder
	for i, what := range way {
		if i == len(way)-1 {
			fmt.Fprintf(&b, "\n     %s", what)
			break
		}
		fmt.Fprintf(&b, "\n%4d. %s", i+1, what)
	}
	return b.String()
}
