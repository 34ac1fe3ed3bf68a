package main

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/lockrun/lockrun/lock"
	"github.com/lockrun/lockrun/pidfile"
)

// Exit statuses of run-one. It runs flock(1), whose statuses these are.
const (
	runOneHeld        = 1
	runOneMisused     = 1
	runOneNotExecuted = 69
)

// runOne stands in for run-one(1): it runs a command, unless the same user runs
// the same command with the same arguments already.
func runOne(_ string, args []string) int {
	return runOnly("run-one", args, func(lockName) error { return nil })
}

// runThisOne stands in for run-this-one(1), which ends that other one first.
func runThisOne(_ string, args []string) int {
	return runOnly("run-this-one", args, endFormerInstance)
}

func runOnly(tool string, args []string, before func(lockName) error) int {
	if len(args) > 0 && args[0] == "--" {
		args = args[1:] // the original would run it
	}
	if len(args) == 0 {
		tell(tool, "no command was given")
		return runOneMisused
	}
	name, err := parseLock(nameOfCommand(args))
	if err == nil {
		err = name.prepare(true)
	}
	if err == nil {
		err = before(name)
	}
	var held *hold
	if err == nil {
		held, err = (&holdFlags{}).acquire([]lockName{name}, true)
	}
	if errors.Is(err, lock.ErrHeld) {
		return runOneHeld
	}
	if err != nil {
		tell(tool, "%s", refusal(name.given, err))
		return exitStatus(err)
	}
	argv := args
	if len(args) == 2 && (args[0] == "-c" || args[0] == "--command") {
		argv = []string{userShell(), "-c", args[1]}
	}
	status, err := supervise(held, (&options{}).command(commandLine{lock: name, argv: argv}, held), policy{}, nil, func() error { return nil })
	var e *execError
	switch {
	case errors.As(err, &e) && e.status != exitSystem:
		tell(tool, "failed to execute %s: %s", argv[0], reasonOf(e.reason))
		return runOneNotExecuted
	case err != nil:
		tell(tool, "%s", supervisionError(name, err))
	}
	return status
}

// nameOfCommand is the NAME that stands for a command and its arguments: its
// first word, for people, and a hash of all words. The hash needs no secrecy: a
// NAME is a user's own.
func nameOfCommand(args []string) string {
	const most = 60 // of the word; a NAME has its limit
	word := lastElement(args[0])
	word = strings.Map(func(r rune) rune {
		if strings.ContainsRune("_.@+-", r) || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' {
			return r
		}
		return '_'
	}, word[:min(len(word), most)])
	h := fnv.New128a()
	for _, arg := range args {
		// An argument can't hold a NUL, so "a b" and "a", "b" differ.
		h.Write(append([]byte(arg), 0))
	}
	return fmt.Sprintf("run-one-%s-%x", word, h.Sum(nil))
}

// userShell is the shell that flock(1), and so run-one, runs a string with.
func userShell() string {
	if shell := os.Getenv("SHELL"); shell != "" {
		return shell
	}
	return "/bin/sh"
}

// endFormerInstance sends SIGTERM to those who are proven to hold the lock, once
// a second until it is free, for as long as that takes.
func endFormerInstance(name lockName) error {
	for {
		err := pidfile.Stop(context.Background(), name.path, pidfile.Schedule{{Signal: syscall.SIGTERM, Wait: time.Second}})
		switch {
		case errors.Is(err, pidfile.ErrNotRunning):
			return nil
		case !errors.Is(err, lock.ErrHeld):
			return err
		}
	}
}
