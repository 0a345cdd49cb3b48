//go:build linux || darwin || freebsd

package roles

import (
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/matrix-org/dendrite/common/telemetry"
)

// measureDisk shows how much room there is on a folder's disk; 0 where that
// cannot be found out, as on a disk that is gone.
func measureDisk(r prometheus.Registerer, dir string) error {
	gauge := func(name, help string, blocks func(*unix.Statfs_t) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "dendrite_disk_" + name, Help: help}, func() float64 {
			var disk unix.Statfs_t
			if unix.Statfs(dir, &disk) != nil {
				return 0
			}
			return blocks(&disk) * float64(disk.Bsize)
		})
	}
	return telemetry.RegisterAll(r,
		gauge("bytes", "Size of the data folder's disk.", func(d *unix.Statfs_t) float64 { return float64(d.Blocks) }),
		gauge("free_bytes", "Room on the data folder's disk.", func(d *unix.Statfs_t) float64 { return float64(d.Bavail) }))
}
