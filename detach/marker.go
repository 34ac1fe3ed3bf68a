package detach

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// A process that was started by Detach knows its role from one variable in its
// environment,
//
//	LOCKRUN_DETACH=daemon:7:12:34567
//
// which names the role, the number of the descriptor of the pipe to the
// launcher, and that pipe's device and inode. A role is believed only with the
// pipe itself: a variable that got into the environment of another program, or
// that somebody set, is worth nothing. It is removed when it is read, so no
// child inherits it.
const markerName = "LOCKRUN_DETACH"

type role string

const (
	launcher role = ""
	leader   role = "leader"
	daemon   role = "daemon"
)

func marker(r role, pipe *os.File) (string, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(pipe.Fd()), &st); err != nil {
		return "", os.NewSyscallError("fstat", err)
	}
	return fmt.Sprintf("%s=%s:%d:%d:%d", markerName, r, pipe.Fd(), uint64(st.Dev), uint64(st.Ino)), nil
}

// readMarker returns the role. The error says that it can't be known: who took
// himself for the launcher then would start a daemon that nobody waits for.
func readMarker() (role, *os.File, error) {
	value, ok := os.LookupEnv(markerName)
	if !ok {
		return launcher, nil, nil
	}
	os.Unsetenv(markerName)
	var r role
	for _, r = range []role{leader, daemon} {
		var fd int
		var dev, ino uint64
		if n, _ := fmt.Sscanf(value, string(r)+":%d:%d:%d", &fd, &dev, &ino); n != 3 || fd < 3 {
			continue
		}
		var st unix.Stat_t
		err := unix.Fstat(fd, &st)
		if err != nil && err != unix.EBADF {
			return launcher, nil, os.NewSyscallError("fstat", err)
		}
		if err != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO ||
			uint64(st.Dev) != dev || uint64(st.Ino) != ino {
			continue
		}
		unix.CloseOnExec(fd)
		return r, os.NewFile(uintptr(fd), "readiness pipe"), nil
	}
	return launcher, nil, nil
}
