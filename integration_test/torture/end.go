//go:build linux && (amd64 || arm64)

package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// settle looks at what there is when the storm is over: nobody, free locks, and
// files only where they may be.
func (s *storm) settle() {
	a := s.nobody()
	// Daemons end by themselves, and so does what commands left behind.
	deadline := time.Now().Add(patience)
	for len(s.left()) > 0 && time.Now().Before(deadline) {
		time.Sleep(20 * time.Millisecond)
	}
	for pid, words := range s.left() {
		s.mistake(a, "process %d is left: %s", pid, words)
		syscall.Kill(pid, syscall.SIGKILL)
	}
	for _, t := range s.targets {
		a := &attempt{n: s.last.Add(1), target: t, doing: &doing{name: "at the end", rules: itRan}, delete: -1}
		a.duty = duty{dir: s.dir, target: t.name, attempt: a.n, kind: exclusive}
		a.argv = lockrunWith()(s, a)
		status, stderr, err := s.execute(a)
		if err != nil || status != 0 || stderr != "" {
			s.mistake(a, "the lock is not free: status %d, %q, %v", status, stderr, err)
		}
	}
	s.last.Add(^uint64(len(s.targets) - 1))
	filepath.WalkDir(s.dir, func(path string, entry fs.DirEntry, err error) error {
		name := strings.TrimPrefix(path, s.dir+"/")
		if err != nil || !entry.IsDir() && !mayBe.MatchString(name) {
			s.mistake(a, "the file %s is left, %v", name, err)
		}
		return nil
	})
}

// mayBe are the files that may be there. A socket is that of a supervisor that was
// killed, and a queue's place that of a waiter.
var mayBe = regexp.MustCompile(`^(lockrun|torture|events|witness/\w+` +
	`|instances/(service|shaken)\.(pid(\.queue\.[123])?|sock)|instances/\.path-[0-9a-f]{32}\.sock` +
	`|locks/jobs(\.aside|\.queue\.[123])?|locks/kept|locks/slots(\.[0123])?)$`)

// left returns the processes of the storm, with their command lines.
func (s *storm) left() map[int]string {
	left := make(map[int]string)
	entries, _ := os.ReadDir("/proc")
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err == nil && s.isOurs(pid) && !isZombie(pid) {
			words, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			left[pid] = strings.ReplaceAll(string(words), "\x00", " ")
		}
	}
	return left
}

func isZombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	after := stat[strings.LastIndexByte(string(stat), ')')+1:]
	return err != nil || strings.HasPrefix(string(after), " Z") || strings.HasPrefix(string(after), " X")
}

// noLock is the target of commands that run without a lock.
const noLock = "nothing"

// checkWitness makes sure, before all, that two at once would be seen, and that
// one after the other is not: nor after one that was killed.
func (s *storm) checkWitness() {
	t := &target{name: noLock}
	command := func(hold time.Duration) (*os.Process, *attempt) {
		a := &attempt{n: 0, target: t, doing: &doing{}}
		a.duty = duty{dir: s.dir, target: t.name, kind: exclusive, hold: hold}
		words := s.command(a)
		p, err := os.StartProcess(words[0], words, &os.ProcAttr{Env: s.env, Files: []*os.File{s.null, s.null, s.null}})
		if err != nil {
			s.mistake(a, "the witness: %v", err)
		}
		return p, a
	}
	end := func(p *os.Process, status int) {
		if state, err := p.Wait(); err != nil || state.ExitCode() != status {
			s.mistake(s.nobody(), "a witness ended so: %v, %v; want status %d", state, err, status)
		}
	}
	first, _ := command(time.Minute)
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if e, ok := s.log.runs(t.name); ok && e.pid == first.Pid {
			break
		}
		if time.Now().After(deadline) {
			s.mistake(s.nobody(), "the witness says nothing")
			return
		}
	}
	second, _ := command(0)
	end(second, statusNotAlone)
	for deadline := time.Now().Add(patience); s.log.violations() == 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	if s.log.violations() != 1 {
		s.mistake(s.nobody(), "the witness did not see two at once")
		return
	}
	s.log.forgive()
	first.Kill()
	first.Wait()
	third, _ := command(0)
	end(third, 0)
}
