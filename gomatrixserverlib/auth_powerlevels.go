package gomatrixserverlib

// powerLevels has the rules on m.room.power_levels. The sender has the given
// level.
// spec: rooms/v1..v5 §authorisation-rules 10, v6..v11 9, v12 10
func (a *authorisation) powerLevels(sender int64) error {
	n := a.rules.ruleNumbers()
	after := parseLevelContent(a.event.Content(), a.rules)
	if err := a.checkLevelFormat(&n, &after); err != nil {
		return err
	}
	if a.levels.event == nil {
		return nil
	}
	before := &a.levels.content
	for i := range numLevels {
		if err := checkLevelChange(before.levels[i], after.levels[i], sender,
			[]int{n.powerLevels, n.first + 1}, levelName(i)); err != nil {
			return err
		}
	}
	checked := []int{mapEvents}
	if a.rules.NotificationLevels {
		checked = []int{mapEvents, mapNotifications}
	}
	for _, i := range checked {
		if err := checkRemovals(before.maps[i], after.maps[i], sender, []int{n.powerLevels, n.first + 2}, mapName(i)); err != nil {
			return err
		}
	}
	for _, i := range checked {
		if err := checkAdditions(before.maps[i], after.maps[i], sender, []int{n.powerLevels, n.first + 3}, mapName(i)); err != nil {
			return err
		}
	}
	return a.checkUserChanges(&n, before.maps[mapUsers], after.maps[mapUsers], sender)
}

// checkLevelFormat has the rules that look at the new event alone.
func (a *authorisation) checkLevelFormat(n *ruleNumbers, after *levelContent) error {
	if a.rules.IntegerPowerLevels {
		for i, l := range after.levels {
			if l.unreadable() {
				return refuse([]int{n.powerLevels, n.levels}, levelName(i), " is not an integer")
			}
		}
		for _, i := range [...]int{mapEvents, mapNotifications} {
			if after.notObject[i] || hasUnreadable(after.maps[i]) {
				return refuse([]int{n.powerLevels, n.maps}, mapName(i), " is not an object of integers")
			}
		}
	}
	users := after.maps[mapUsers]
	if after.notObject[mapUsers] || hasUnreadable(users) {
		return refuse([]int{n.powerLevels, n.users}, "users is not an object of levels")
	}
	for user := range users {
		if _, _, err := ParseHistoricalUserID(user); err != nil {
			return refuse([]int{n.powerLevels, n.users}, "users has a key that is no user ID")
		}
	}
	if after.outOfRange() {
		return refuse([]int{n.powerLevels, n.users}, "a level is out of range")
	}
	if a.rules.CreatorsPrivileged {
		for _, creator := range a.levels.creators {
			if _, ok := users[creator]; ok {
				return refuse([]int{n.powerLevels, n.creators}, "users has the creator ", creator)
			}
		}
	}
	return nil
}

// outOfRange reports whether a number is no finite double.
// spec: rooms/v1 §mroompower_levels-events-accept-values-as-floats
func (c *levelContent) outOfRange() bool {
	for _, l := range c.levels {
		if l.kind == levelOutOfRange {
			return true
		}
	}
	for _, levels := range c.maps {
		for _, l := range levels {
			if l.kind == levelOutOfRange {
				return true
			}
		}
	}
	return false
}

func hasUnreadable(levels map[string]level) bool {
	for _, l := range levels {
		if l.unreadable() {
			return true
		}
	}
	return false
}

// checkLevelChange checks a level that may have been added, changed or
// removed. A new value that cannot be read cannot be compared: it is refused.
func checkLevelChange(before, after level, sender int64, rule []int, name string) error {
	if before == after {
		return nil
	}
	if before.kind == levelOK && before.value > sender {
		return refuse(append(rule, 1), name, " was above the sender's level")
	}
	if after.unreadable() {
		return refuse(append(rule, 2), name, " is no level")
	}
	if after.kind == levelOK && after.value > sender {
		return refuse(append(rule, 2), name, " is above the sender's level")
	}
	return nil
}

// checkRemovals checks the present values of entries that are changed or
// removed.
func checkRemovals(before, after map[string]level, sender int64, rule []int, name string) error {
	for key, was := range before {
		if was != after[key] && was.kind == levelOK && was.value > sender {
			return refuse(append(rule, 1), "an entry of ", name, " was above the sender's level")
		}
	}
	return nil
}

// checkAdditions checks the new values of entries that are added or changed.
func checkAdditions(before, after map[string]level, sender int64, rule []int, name string) error {
	for key, is := range after {
		if is == before[key] {
			continue
		}
		if is.unreadable() || is.value > sender {
			return refuse(append(rule, 1), "an entry of ", name, " is above the sender's level or is none")
		}
	}
	return nil
}

// checkUserChanges has the rules on the users' levels.
func (a *authorisation) checkUserChanges(n *ruleNumbers, before, after map[string]level, sender int64) error {
	for user, was := range before {
		if user != a.event.sender && was != after[user] && was.kind == levelOK && was.value >= sender {
			return refuse([]int{n.powerLevels, n.first + 4, 1}, "a user whose level is changed is not below the sender")
		}
	}
	return checkAdditions(before, after, sender, []int{n.powerLevels, n.first + 5}, mapName(mapUsers))
}
