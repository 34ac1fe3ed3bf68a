package pidfile

import (
	"io/fs"
	"os"
	"syscall"

	"github.com/lockrun/lockrun/lock"
)

func owner(file fs.FileInfo) (uid int, links uint64) {
	st := file.Sys().(*syscall.Stat_t)
	return int(st.Uid), uint64(st.Nlink)
}

// openForLook opens the file at path to look at it, as lock.Open does, but not
// one that was deleted.
func openForLook(path string) (*os.File, error) {
	if _, err := os.Lstat(path); err != nil {
		return nil, err
	}
	return lock.Open(path)
}
