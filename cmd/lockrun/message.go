package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/lockrun/lockrun/lock"
	"github.com/lockrun/lockrun/pidfile"
)

// Messages follow these rules. Standard output belongs to the command and to
// what was asked for (help, version, status); everything else goes to standard
// error, as one line that begins with "lockrun: ", in lower case, without a full
// stop. Success is silent. What others chose, a path or a command line, is
// printed without control characters.

// ourSyslog is where the messages of a daemon go whose output goes there too.
var ourSyslog *syslogLog

// complain prints a message to standard error.
func complain(format string, args ...any) {
	text := "lockrun: " + oneLine(fmt.Sprintf(format, args...))
	if ourSyslog != nil {
		ourSyslog.complain(text)
		return
	}
	os.Stderr.WriteString(text + "\n")
}

// usage complains about the command line.
func usage(format string, args ...any) int {
	complain(format+" (see lockrun --help)", args...)
	return exitUsage
}

// misuse complains about the command line, unless the system did not let us read it:
// a relative path needs the working directory.
func misuse(err error) int {
	var call *os.SyscallError
	var path *fs.PathError
	if errors.As(err, &call) || errors.As(err, &path) {
		complain("%v", err)
		return exitSystem
	}
	return usage("%v", err)
}

// refusal says who holds the lock, or what is wrong with it. name is what the
// user calls the lock.
func refusal(name string, err error) string {
	var about *lockError
	if errors.As(err, &about) {
		name = about.name.given
	}
	var held *lock.HeldError
	if errors.As(err, &held) {
		s := name + ": held by " + who(held.Holder)
		var slots *slotsError
		switch {
		case errors.As(err, &slots):
			s = fmt.Sprintf("%s: all %d slots are taken, one by %s", name, slots.slots, who(held.Holder))
		case errors.Is(err, errQueueFull):
			s += ", and enough others wait for it"
		}
		if held.Deleted {
			s += ", though the file was deleted"
		}
		return s
	}
	return name + ": " + hint(err)
}

// hint returns the reason without the path, and with the way out if there is
// one.
func hint(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	switch {
	case mayNotSignal(err):
		return "not permitted to signal its holder"
	case errors.Is(err, fs.ErrNotExist):
		return "the directory does not exist"
	case errors.Is(err, pidfile.ErrNotPIDFile):
		return err.Error() + " and is left alone; to lock it without writing use --no-pid"
	}
	return err.Error()
}

// who describes a holder: process, command line, user, for how long.
func who(h lock.Holder) string {
	if h.PID == 0 {
		return "a process that can't be seen from here"
	}
	s := fmt.Sprintf("process %d (%s)", h.PID, h.CommandLine())
	if h.UID >= 0 {
		s += ", user " + userName(h.UID)
	}
	if !h.Since.IsZero() {
		s += ", for " + age(h.Since)
	}
	return s
}

func userName(uid int) string {
	if uid == 0 {
		return "root" // everywhere, and saves reading /etc/passwd
	}
	id := strconv.Itoa(uid)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return id
}

// age returns how long ago a time was, in whole seconds and at most two units.
func age(since time.Time) string {
	d := max(0, time.Since(since)).Truncate(time.Second)
	switch {
	case d >= 24*time.Hour:
		return fmt.Sprintf("%dd%dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return d.String()
}

// oneLine replaces what could move the cursor or end the line.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}
