package main

import (
	"fmt"
	"slices"
	"time"
)

// contestant is one of those that a measure compares.
type contestant struct {
	name    string
	once    func() (time.Duration, error) // does it once
	missing string                        // why it can't take part
	rarely  bool                          // slow, and only there for comparison
}

const (
	warmUps   = 3  // rounds that don't count
	rareRound = 10 // rarely is in every tenth round
)

// slowly is how many rounds of something there are that takes a second or so.
func (b *bench) slowly() int { return max(1, b.rounds/40) }

// contest lets the contestants run in turn, forwards in one round and backwards
// in the next, so that what else happens on the machine hits all alike. The
// first is lockrun. What counts is the median.
func (b *bench) contest(rounds int, unit func(time.Duration) amount, contestants ...contestant) (result, error) {
	samples := make([][]time.Duration, len(contestants))
	warmUps := min(warmUps, rounds)
	for round := range warmUps + rounds {
		for i := range contestants {
			if round%2 == 1 {
				i = len(contestants) - 1 - i
			}
			c := contestants[i]
			if c.missing != "" || c.rarely && round%rareRound != 0 {
				continue
			}
			took, err := c.once()
			if err != nil {
				return result{}, fmt.Errorf("%s: %w", c.name, err)
			}
			if round >= warmUps || c.rarely {
				samples[i] = append(samples[i], took)
			}
		}
	}
	r := result{ours: unit(median(samples[0]))}
	for i, c := range contestants[1:] {
		p := peer{name: c.name, missing: c.missing}
		if c.missing == "" {
			p.amount = unit(median(samples[i+1]))
		}
		r.peers = append(r.peers, p)
	}
	return r, nil
}

func median(samples []time.Duration) time.Duration {
	slices.Sort(samples)
	n := len(samples)
	return (samples[(n-1)/2] + samples[n/2]) / 2
}
