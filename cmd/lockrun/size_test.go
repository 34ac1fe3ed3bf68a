package main

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestSizesAreThoseOfUtilLinux has what "fallocate -l SIZE file", which reads a
// size as flock(1) does, made of those words: util-linux 2.38.1.
func TestSizesAreThoseOfUtilLinux(t *testing.T) {
	for word, want := range map[string]int64{
		"1": 1, "010": 8, "0x10": 16, "0X10": 16, "+5": 5, " 5": 5,
		"1K": 1024, "1k": 1024, "1KiB": 1024, "1Kib": 1024, "1KB": 1000, "1kB": 1000, "1Kb": 1000,
		"2M": 2097152, "1MB": 1000000, "1G": 1073741824, "010K": 8192, "0x10K": 16384,
		"0.5K": 512, "0.3K": 341, "0.10K": 1024, "1.5K": 1536, "1.5KiB": 1536, "1.05M": 1101004, "1.25MB": 1250000,
		"1.333M": 1433024, "0.999K": 1126, "1.08K": 1109, "5.K": 5120, "5.0K": 5120, "1.010K": 1126,
		"0.12345678M": 129453, "1.00000000000000000001M": 1048576,
	} {
		if got, err := parseSize(word); got != want || err != nil {
			t.Errorf("%q: %d, %v; want %d", word, got, err, want)
		}
	}
	for word, want := range map[string]error{
		"": unix.EINVAL, " ": unix.EINVAL, "K": unix.EINVAL, "-1": unix.EINVAL, " -1": unix.EINVAL, "x": unix.EINVAL,
		"5.": unix.EINVAL, "5.0": unix.EINVAL, ".5K": unix.EINVAL, "08": unix.EINVAL, "0x": unix.EINVAL, "0xg": unix.EINVAL,
		"1KK": unix.EINVAL, "1Ki": unix.EINVAL, "1K1": unix.EINVAL, "1.5": unix.EINVAL, "1.5.5K": unix.EINVAL, "1e3": unix.EINVAL,
		"1.0x10K": unix.EINVAL, "1Q": unix.EINVAL, "5 ": unix.EINVAL, "5 K": unix.EINVAL,
		"18446744073709551616": unix.ERANGE, "16E": unix.ERANGE, "1Z": unix.ERANGE, "1Y": unix.ERANGE,
		"1.999999999999999999999M": unix.ERANGE,
	} {
		if got, err := parseSize(word); err != want {
			t.Errorf("%q: %d, %v; want %v", word, got, err, want)
		}
	}
	// Off the end of what an offset can be; the kernel refuses it.
	if got, err := parseSize("18446744073709551615"); got != -1 || err != nil {
		t.Errorf("the largest number: %d, %v", got, err)
	}
}

// FuzzParseSize: nothing panics, and what is plain decimal is itself.
func FuzzParseSize(f *testing.F) {
	for _, seed := range []string{"1", "0x10K", "1.5M", "0.0000000000000000000000001Y", "5.KiB", "18446744073709551615E"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, word string) {
		n, err := parseSize(word)
		if err != nil && err != unix.EINVAL && err != unix.ERANGE {
			t.Fatalf("%q: %v", word, err)
		}
		if err != nil && n != 0 {
			t.Fatalf("%q: %d beside %v", word, n, err)
		}
	})
}
