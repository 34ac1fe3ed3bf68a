package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf16"

	"github.com/lockrun/lockrun/lock"
	"github.com/lockrun/lockrun/pidfile"
)

// instance is a lock and what is known of it.
type instance struct {
	name       lockName
	status     pidfile.Status
	err        error  // why the state is unknown
	supervisor answer // what its supervisor said, if it was asked
}

// inspect looks at many locks at once.
func inspect(names []lockName) []instance {
	paths := make([]string, len(names))
	for i, n := range names {
		paths[i] = n.path
	}
	all := make([]instance, len(names))
	statuses, errs := pidfile.InspectAll(paths)
	for i, n := range names {
		all[i] = instance{name: n, status: statuses[i], err: errs[i]}
	}
	askSupervisors(all)
	return all
}

// askSupervisors asks those of running instances, several at a time. One that
// does not answer in a second is not waited for.
func askSupervisors(all []instance) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	const atATime = 16
	next := make(chan *instance)
	var done sync.WaitGroup
	for range min(atATime, len(all)) {
		done.Go(func() {
			for i := range next {
				i.ask(ctx)
			}
		})
	}
	for n := range all {
		if all[n].status.State == pidfile.Running {
			next <- &all[n]
		}
	}
	close(next)
	done.Wait()
}

func (i *instance) ask(ctx context.Context) {
	f, err := lock.Open(i.name.path)
	if err != nil {
		return
	}
	defer f.Close()
	a, err := askSupervisor(ctx, i.name, f, request{Do: doState})
	if err != nil {
		return
	}
	i.supervisor = a
	if a.PID == i.status.Holder.PID {
		return
	}
	// Somebody else wrote into the file.
	holders, _ := lock.HoldersOf(f)
	for _, h := range holders {
		if h.PID == a.PID || h.PID == a.Supervisor && i.status.Holder.PID != a.PID {
			i.status.Holder = h
		}
	}
}

// The states of an instance, as status prints them.
const (
	stateRunning    = "running"
	stateStarting   = "starting"   // the supervisor has the lock, and no command yet
	stateStopping   = "stopping"   // the command was told to end
	stateStragglers = "stragglers" // the recorded process does not hold the lock, others do
	stateStale      = "stale"      // not running, and a PID is left
	stateStopped    = "stopped"
	stateUnknown    = "unknown"
)

func (i *instance) state() string {
	switch i.status.State {
	case pidfile.Running:
		switch i.supervisor.State {
		case stateRunning, stateStarting, stateStopping:
			return i.supervisor.State
		}
		switch {
		case i.status.PID == 0 || i.status.Holder.Recorded:
			return stateRunning
		case i.status.Holder.PID == 0:
			return stateUnknown // it may be the recorded one, or not
		}
		return stateStragglers
	case pidfile.Stale:
		return stateStale
	case pidfile.Absent:
		return stateStopped
	}
	return stateUnknown
}

// exitStatus is that of an init script (Linux Standard Base).
func (i *instance) exitStatus() int {
	switch i.state() {
	case stateRunning, stateStarting, stateStopping:
		return exitOK
	case stateStale:
		return exitStatusDead
	case stateStopped:
		return exitStatusNone
	}
	return exitStatusOther
}

// sentence says for people what is known.
func (i *instance) sentence() string {
	switch i.state() {
	case stateRunning, stateStarting, stateStopping:
		s := i.state()
		if i.supervisor.Message != "" {
			s += " (" + i.supervisor.Message + ")"
		}
		return s + ", held by " + who(i.status.Holder)
	case stateStragglers:
		return fmt.Sprintf("stragglers: process %d is recorded, but the lock is held by %s", i.status.PID, who(i.status.Holder))
	case stateStale:
		return fmt.Sprintf("stale: not running, process %d left its PID behind", i.status.PID)
	case stateStopped:
		return "not running"
	}
	return "unknown: " + i.reason()
}

// reason says why the state is unknown.
func (i *instance) reason() string {
	if i.err != nil {
		return hint(i.err)
	}
	return fmt.Sprintf("held by %s; process %d is recorded", who(i.status.Holder), i.status.PID)
}

// columns are the words of a row: state, PID, user, seconds since it took the
// lock, memory in KiB, command, or the reason of an unknown state. What is not
// known is "-".
func (i *instance) columns() []string {
	row := []string{i.state(), "-", "-", "-", "-", "-"}
	if i.state() == stateUnknown {
		row[5] = "(" + oneLine(i.reason()) + ")"
	}
	h := i.status.Holder
	if h.PID == 0 {
		return row
	}
	row[1] = strconv.Itoa(h.PID)
	if h.UID >= 0 {
		row[2] = userName(h.UID)
	}
	if !h.Since.IsZero() {
		row[3] = strconv.Itoa(int(max(0, time.Since(h.Since)).Seconds()))
	}
	if kb, ok := residentMemory(h.PID); ok {
		row[4] = strconv.Itoa(kb)
	}
	row[5] = h.CommandLine()
	return row
}

// instanceJSON is an instance as status --json prints it; docs/status.md
// documents the fields.
type instanceJSON struct {
	Name       string     `json:"name"`
	Path       string     `json:"path"`
	State      string     `json:"state"`
	Reason     string     `json:"reason,omitempty"`
	Message    string     `json:"message,omitempty"`
	Supervisor int        `json:"supervisor,omitempty"`
	PID        int        `json:"pid,omitempty"`
	UID        *int       `json:"uid,omitempty"`
	User       string     `json:"user,omitempty"`
	Since      *time.Time `json:"since,omitempty"`
	Memory     int        `json:"memory,omitempty"`
	Command    []string   `json:"command,omitempty"`
}

func (i *instance) json() instanceJSON {
	j := instanceJSON{Name: i.name.given, Path: i.name.path, State: i.state(), Supervisor: i.supervisor.Supervisor, Message: i.supervisor.Message}
	if j.State == stateUnknown {
		j.Reason = i.reason()
	}
	h := i.status.Holder
	if h.PID == 0 {
		return j
	}
	j.PID, j.Command = h.PID, h.Args
	if h.UID >= 0 {
		j.UID, j.User = &h.UID, userName(h.UID)
	}
	if !h.Since.IsZero() {
		since := h.Since.UTC()
		j.Since = &since
	}
	if kb, ok := residentMemory(h.PID); ok {
		j.Memory = kb * 1024
	}
	return j
}

// printJSON prints an array of all.
func printJSON(w io.Writer, all []instance) {
	list := make([]instanceJSON, len(all))
	for n := range all {
		list[n] = all[n].json()
	}
	var text strings.Builder
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	e.Encode(list)
	var safe strings.Builder
	// The encoder leaves DEL, the C1 controls and what turns the direction of
	// the text as they are. They can only stand in a string.
	for _, r := range text.String() {
		switch {
		case r == '\n' || unicode.IsPrint(r):
			safe.WriteRune(r)
		default:
			for _, u := range utf16.Encode([]rune{r}) {
				fmt.Fprintf(&safe, `\u%04x`, u)
			}
		}
	}
	io.WriteString(w, safe.String())
}

// residentMemory returns the resident memory of a process in KiB.
func residentMemory(pid int) (int, bool) {
	statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid)) // proc_pid_statm(5): in pages
	if err != nil {
		return 0, false
	}
	var size, resident int
	if _, err := fmt.Sscan(string(statm), &size, &resident); err != nil {
		return 0, false
	}
	return resident * os.Getpagesize() / 1024, true
}

// status says on standard output what runs.
func status(args []string) int {
	flags := newFlags()
	var quiet bool
	flags.bool(&quiet, "quiet", "q")
	var asJSON bool
	flags.bool(&asJSON, "json")
	if status, done := parse(flags, args); done {
		return status
	}
	if quiet && asJSON {
		return usage("--quiet and --json contradict each other")
	}
	names, err := lockOperands(flags.operands)
	if err != nil {
		if misuse(err) == exitUsage {
			return exitUsage
		}
		return exitStatusOther
	}
	for _, n := range names {
		if err := n.prepare(false); err != nil {
			complain("%v", err)
			return exitStatusOther
		}
	}
	if len(flags.operands) == 0 {
		if names, err = knownInstances(); err != nil {
			complain("%v", err)
			return exitStatus(err)
		}
	}
	all := inspect(names)
	code := exitOK
	for _, i := range all {
		if code == exitOK && len(flags.operands) > 0 {
			code = i.exitStatus()
		}
	}
	switch {
	case quiet:
	case asJSON:
		printJSON(os.Stdout, all)
	case len(flags.operands) == 1:
		fmt.Fprintln(os.Stdout, oneLine(all[0].name.given+": "+all[0].sentence()))
	default:
		printTable(os.Stdout, all)
	}
	return code
}

// printTable prints a row for each instance: for people with a head, in columns
// and cut to the width of the terminal, else separated by tabs.
func printTable(w *os.File, all []instance) {
	width, isTerminal := terminalWidth(w)
	if !isTerminal {
		for _, i := range all {
			fmt.Fprintln(w, oneLine(i.name.given)+"\t"+strings.Join(i.columns(), "\t"))
		}
		return
	}
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "NAME\tSTATE\tPID\tUSER\tSINCE\tMEMORY\tCOMMAND")
	for _, i := range all {
		row := i.columns()
		if !i.status.Holder.Since.IsZero() {
			row[3] = age(i.status.Holder.Since)
		}
		if kb, err := strconv.Atoi(row[4]); err == nil {
			row[4] = fmt.Sprintf("%.1f MB", float64(kb)/1024)
		}
		fmt.Fprintln(table, oneLine(i.name.given)+"\t"+strings.Join(row, "\t"))
	}
	table.Flush()
	for line := range strings.Lines(text.String()) {
		line = strings.TrimRight(line, " \n")
		if runes := []rune(line); len(runes) > width {
			line = string(runes[:width-1]) + "…"
		}
		io.WriteString(w, line+"\n")
	}
}

// list prints the names of the instances that run.
func list(args []string) int {
	flags := newFlags()
	var known bool
	flags.bool(&known, "all")
	if status, done := parse(flags, args); done {
		return status
	}
	if len(flags.operands) > 0 {
		return usage("list takes no LOCK; there is a word: %q", flags.operands[0])
	}
	instances := allInstances
	if known {
		instances = knownInstances
	}
	names, err := instances()
	if err != nil {
		complain("%v", err)
		return exitStatus(err)
	}
	for _, i := range inspect(names) {
		if known || i.status.State == pidfile.Running {
			fmt.Fprintln(os.Stdout, i.name.given)
		}
	}
	return exitOK
}

// allInstances returns the names in the instance directory, sorted. What has
// another name than lockrun would give it is passed over.
func allInstances() ([]lockName, error) {
	probe, err := parseLock("any")
	if err != nil {
		return nil, err
	}
	if err := probe.prepare(false); err != nil {
		return nil, err
	}
	files, err := os.ReadDir(filepath.Dir(probe.path))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var names []lockName
	for _, file := range files {
		word, isPID := strings.CutSuffix(file.Name(), ".pid")
		if n, err := parseLock(word); isPID && err == nil && n.named {
			names = append(names, n)
		}
	}
	return names, nil
}

// knownInstances returns those too that only have a file. What is wrong with the
// configuration is said, and hides nothing that runs.
func knownInstances() ([]lockName, error) {
	names, err := allInstances()
	if err != nil {
		return nil, err
	}
	configured, _, err := configuredInstances()
	if err != nil {
		complain("%v", err)
	}
	names = append(names, configured...)
	slices.SortFunc(names, func(a, b lockName) int { return cmp.Compare(a.given, b.given) })
	return slices.Compact(names), nil
}

func lockOperands(operands []string) ([]lockName, error) {
	var names []lockName
	for _, operand := range operands {
		n, err := parseLock(operand)
		if err != nil {
			return nil, err
		}
		names = append(names, n)
	}
	return names, nil
}
