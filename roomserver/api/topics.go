package api

import (
	"time"

	"github.com/matrix-org/dendrite/common/eventlog"
)

// AnswerPartitions is the number of partitions of room.answers: as many writer
// instances have one of their own. Instances that share one only read more.
const AnswerPartitions = 16

// answersMaxBytes bounds a partition of room.answers in memory: far more than
// the verdicts of the requests that may be in flight.
const answersMaxBytes = 16 << 20

// InputTopic describes room.input; zero partitions means DefaultPartitions.
func InputTopic(partitions int) eventlog.TopicSpec {
	return eventlog.TopicSpec{Name: TopicInput, Partitions: orDefault(partitions), Durability: eventlog.Durable, Retention: InputRetention}
}

// OutputTopic describes room.output; zero partitions means DefaultPartitions.
func OutputTopic(partitions int) eventlog.TopicSpec {
	return eventlog.TopicSpec{Name: TopicOutput, Partitions: orDefault(partitions), Durability: eventlog.Derived, Retention: OutputRetention}
}

// AnswersTopic describes room.answers.
func AnswersTopic() eventlog.TopicSpec {
	return eventlog.TopicSpec{Name: TopicAnswers, Partitions: AnswerPartitions, Durability: eventlog.Ephemeral, MaxBytes: answersMaxBytes}
}

// How long the logs hold records at least; behind that the stores are the
// truth, and what is deleted from them is gone (design rule 15).
const (
	InputRetention  = 7 * 24 * time.Hour
	OutputRetention = 7 * 24 * time.Hour
)

func orDefault(partitions int) int {
	if partitions == 0 {
		return DefaultPartitions
	}
	return partitions
}
