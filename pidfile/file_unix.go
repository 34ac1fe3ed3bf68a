package pidfile

import (
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

func owner(file fs.FileInfo) (uid int, links uint64) {
	st := file.Sys().(*syscall.Stat_t)
	return int(st.Uid), uint64(st.Nlink)
}

// openForLook opens a file to look at it: a symbolic link is not followed, a
// FIFO does not block and its writer is not woken.
func openForLook(path string) (*os.File, error) {
	file, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if mode := file.Mode(); !mode.IsRegular() && !mode.IsDir() {
		err := ErrNotPIDFile
		if mode&fs.ModeDevice != 0 {
			err = ErrDevice
		}
		return nil, pathError(path, err)
	}
	return os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
}
