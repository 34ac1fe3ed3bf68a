//go:build linux && (amd64 || arm64)

package main

import (
	"fmt"
	"os"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// witness is what tells who is alone: a set of semaphores (sysvipc(7)), which has
// no part in the lock. What a process adds to them the kernel takes back when it
// ends, by whatever it ends (SEM_UNDO): when its last thread has come to its end,
// and before that thread's descriptors are taken from it (do_exit in the kernel's
// exit.c: exit_sem, then exit_files). So who is accused was alive while he could be
// seen to have the lock, of which /proc shows the descriptors.
//
// A record lock (fcntl(2)) is not as good: it goes when the descriptors are closed,
// some moments after /proc shows them no more.
type witness int

// The semaphores of a set. Behind them is one for each slot.
const (
	semAlone  = 0 // who must be alone
	semShares = 1 // who shares, or has a slot
)

const (
	ipcRemove = 0
	ipcNoWait = 0o4000
	semUndo   = 0x1000
	semGetPID = 11
)

// semop is struct sembuf of semop(2).
type semop struct {
	number uint16
	add    int16
	flags  int16
}

// free waits for nobody: it fails unless a semaphore is zero.
func free(number uint16) semop { return semop{number, 0, ipcNoWait} }

func add(number uint16, n int16) semop { return semop{number, n, ipcNoWait | semUndo} }

// newWitness makes a set, and writes its number into a file.
func newWitness(path string) (w witness, err error) {
	id, _, errno := unix.Syscall(unix.SYS_SEMGET, 0, 2+mostSlots, 0o600)
	if errno != 0 {
		return 0, os.NewSyscallError("semget", errno)
	}
	w = witness(id)
	if err := os.WriteFile(path, []byte(strconv.Itoa(int(w))), 0o600); err != nil {
		w.remove()
		return 0, err
	}
	return w, nil
}

func openWitness(path string) (witness, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	id, err := strconv.Atoi(string(text))
	return witness(id), err
}

func (w witness) remove() { unix.Syscall6(unix.SYS_SEMCTL, uintptr(w), 0, ipcRemove, 0, 0, 0) }

// do makes all operations at once, or none.
func (w witness) do(ops ...semop) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_SEMOP, uintptr(w), uintptr(unsafe.Pointer(&ops[0])), uintptr(len(ops)))
		if errno == 0 {
			return nil
		}
		if errno != unix.EINTR {
			return os.NewSyscallError("semop", errno)
		}
	}
}

// take returns what gives it back. The error names who is there.
func (w witness) take(kind string, slotNumber int) (give func(), err error) {
	var wanted, mine []semop
	switch kind {
	case exclusive:
		mine = []semop{add(semAlone, 1)}
		wanted = []semop{free(semAlone), free(semShares), mine[0]}
	case shared:
		mine = []semop{add(semShares, 1)}
		wanted = []semop{free(semAlone), mine[0]}
	case slot:
		own := uint16(semShares + slotNumber)
		mine = []semop{add(semShares, 1), add(own, 1)}
		wanted = []semop{free(semAlone), free(own), mine[0], mine[1]}
	}
	if err := w.do(wanted...); err != nil {
		last := func(number int) uintptr {
			pid, _, _ := unix.Syscall(unix.SYS_SEMCTL, uintptr(w), uintptr(number), semGetPID)
			return pid
		}
		return nil, fmt.Errorf("process %d, or %d that shares, runs as well (%w)", last(semAlone), last(semShares), err)
	}
	return func() {
		for i := range mine {
			mine[i].add = -1
		}
		w.do(mine...)
	}, nil
}
