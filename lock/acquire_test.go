package lock

import "testing"

func TestWhoIsInTheWayForLongerThanAMoment(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		h    Holder
		want bool
	}{
		{Holder{}, false},
		{Holder{PID: 1}, true},
		{Holder{PID: 1, Shared: true}, false},
		{Holder{PID: 1, Shared: true, Recorded: true}, true},
	} {
		if got := settled(tc.h); got != tc.want {
			t.Errorf("settled(%+v) = %v; want %v", tc.h, got, tc.want)
		}
	}
}
