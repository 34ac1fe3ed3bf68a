package lock

import (
	"io/fs"
	"syscall"
)

func idOf(file fs.FileInfo) fileID {
	st := file.Sys().(*syscall.Stat_t)
	return fileID{uint64(st.Dev), uint64(st.Ino)}
}

func linksOf(file fs.FileInfo) uint64 {
	return uint64(file.Sys().(*syscall.Stat_t).Nlink)
}

func ownerOf(file fs.FileInfo) int {
	return int(file.Sys().(*syscall.Stat_t).Uid)
}
