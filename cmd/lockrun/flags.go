package main

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"
)

// parse parses the arguments. done says that there is nothing more to do, with
// that exit status.
func parse(fs *flagSet, args []string) (status int, done bool) {
	err := fs.parse(args)
	if errors.Is(err, errHelp) {
		return help(nil), true
	}
	if err != nil {
		return misuse(err), true
	}
	return 0, false
}

// duration is a flag's time span: Go's notation (300ms, 1m30s) or seconds (5,
// 0.5).
type duration struct {
	d   time.Duration
	set bool
}

func (d *duration) String() string { return d.d.String() }

func (d *duration) Set(s string) error {
	parsed, err := parseDuration(s)
	if err != nil {
		return err
	}
	d.d, d.set = parsed, true
	return nil
}

func parseDuration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	negative := false
	if err != nil {
		seconds, e := strconv.ParseFloat(s, 64)
		if e != nil || math.IsNaN(seconds) {
			return 0, fmt.Errorf("want seconds (5, 0.5) or a duration (300ms, 1m30s)")
		}
		if math.Abs(seconds) > math.MaxInt64/float64(time.Second)/2 {
			return 0, fmt.Errorf("too long")
		}
		d = time.Duration(seconds * float64(time.Second))
		negative = seconds < 0
	}
	if negative || d < 0 {
		return 0, fmt.Errorf("must not be negative")
	}
	return d, nil
}

// statusValue is a flag's exit status.
type statusValue int

func (v *statusValue) String() string { return strconv.Itoa(int(*v)) }

func (v *statusValue) Set(s string) error {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || n > 255 {
		return fmt.Errorf("want an exit status from 0 to 255")
	}
	*v = statusValue(n)
	return nil
}
