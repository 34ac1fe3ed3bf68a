//go:build linux && (amd64 || arm64)

package main

import (
	"regexp"
	"strings"
)

// rule is one way in which a process may end: with that exit status (128+n if
// signal n killed it) and with those words on its standard error, each line of
// which has to match. What matches no rule is a violation.
type rule struct {
	status int
	says   string // a regular expression; "" for silence
	kind   string // for the report
	truth  truth
}

// truth is what the end of a process says of its command.
type truth int

const (
	nothing truth = iota
	ran           // from its beginning to its end
	neverRan
)

const (
	holder      = `(process \d+ \(.*\)(, user \S+)?(, for \S+)?|a process that can't be seen from here)(, though the file was deleted)?`
	heldBy      = `^lockrun: \S+: held by ` + holder
	librarySays = `^library: `
)

var (
	itRan = []rule{
		{0, ``, "ran", ran},
		{7, ``, "ran", ran},
	}
	// Somebody ended the command, or lockrun before it had one. Of those who only
	// ask for something nobody may be ended: they hold nothing.
	wasEnded = []rule{
		{128 + 9, ``, "ended by SIGKILL", nothing},
		{128 + 15, ``, "ended by SIGTERM", nothing},
	}
	refused = []rule{
		{75, heldBy + `$`, "refused: held", neverRan},
		{75, heldBy + `, and enough others wait for it(, though the file was deleted)?$`, "refused: the queue is full", neverRan},
		{75, `^lockrun: \S+: all \d slots are taken, one by ` + holder + `$`, "refused: all slots are taken", neverRan},
		{75, librarySays + `.*`, "refused: held (library)", neverRan},
		{75, ``, "refused: held (no lockrun)", neverRan},
	}
)

func rules(lists ...[]rule) (all []rule) {
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

var (
	runEnds   = rules(itRan, wasEnded, refused)
	flockEnds = rules(itRan, wasEnded, []rule{{1, ``, "refused: flock", neverRan}})
	notReady  = []rule{
		{128 + 9, `^lockrun: ended before it was ready: killed by SIGKILL$`, "start: ended by SIGKILL", nothing},
		{128 + 15, `^lockrun: ended before it was ready: killed by SIGTERM$`, "start: ended by SIGTERM", nothing},
	}
	startEnds = rules(refused, wasEnded, notReady, []rule{{0, ``, "started", nothing}})
	stopEnds  = []rule{
		{0, ``, "stopped", nothing},
		{0, `^lockrun: \S+: not running$`, "stop: not running", nothing},
		{75, heldBy + `$`, "stop: still held", nothing},
	}
	restartEnds = rules(notReady, []rule{
		{0, ``, "restarted", nothing},
		{3, `^lockrun: \S+: not running; to start it give the command.*$`, "restart: not running", nothing},
		{3, `^lockrun: \S+: it has ended$`, "restart: it has ended", nothing},
		{64, heldBy + `, and no supervisor could start its command again; to replace it give the command \(see lockrun --help\)$`, "restart: no supervisor", nothing},
		{75, `^lockrun: \S+: (it is being stopped|the supervisor was told to end by SIGTERM)$`, "restart: it is being stopped", nothing},
		{75, heldBy + `$`, "restart: held", nothing},
	})
	awaitEnds = []rule{
		{0, ``, "wait: free", nothing},
		{75, heldBy + `$`, "wait: still held", nothing},
	}
	statusEnds = []rule{
		{0, ``, "status: runs", nothing},
		{1, ``, "status: a PID is left", nothing},
		{3, ``, "status: not running", nothing},
		{4, ``, "status: unknown", nothing},
	}
	signalEnds = []rule{
		{0, ``, "signalled", nothing},
		{0, `^lockrun: \S+: not running$`, "signal: not running", nothing},
	}
)

var compiled = make(map[string]*regexp.Regexp)

func init() {
	for _, rules := range [][]rule{runEnds, flockEnds, startEnds, stopEnds, restartEnds, awaitEnds, statusEnds, signalEnds} {
		for _, r := range rules {
			compiled[r.says] = regexp.MustCompile(r.says)
		}
	}
}

// judge returns the rule by which the process ended, nil if there is none.
func (d *doing) judge(status int, stderr string) *rule {
	for i, r := range d.rules {
		if r.status == status && r.matches(stderr) {
			return &d.rules[i]
		}
	}
	return nil
}

func (r *rule) matches(stderr string) bool {
	if r.says == "" || stderr == "" {
		return r.says == stderr
	}
	for line := range strings.Lines(stderr) {
		if !compiled[r.says].MatchString(strings.TrimSuffix(line, "\n")) {
			return false
		}
	}
	return true
}

// lie returns in what the end of the process says something else than its command
// did.
func (a *attempt) lie(f finish) string {
	switch {
	case a.outcome == nil:
	case a.outcome.truth == ran && !f.ended:
		return "it says that its command ran, which did not run to its end"
	case a.outcome.truth == neverRan && f.began:
		return "it says that it was refused, and its command ran"
	}
	return ""
}
