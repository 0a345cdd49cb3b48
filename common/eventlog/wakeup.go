package eventlog

// Wakeup wakes the readers who wait for a topic's records. Who has it guards it
// by a mutex. The zero value is ready.
type Wakeup struct {
	// channel is made by the first reader who waits; nil while nobody does.
	channel chan struct{}
}

// Channel returns the channel that is closed at the next All.
func (w *Wakeup) Channel() chan struct{} {
	if w.channel == nil {
		w.channel = make(chan struct{})
	}
	return w.channel
}

// All wakes everybody.
func (w *Wakeup) All() {
	if w.channel != nil {
		close(w.channel)
		w.channel = nil
	}
}
