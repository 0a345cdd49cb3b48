package sqldb

// SetMaintenance opens and closes a database to tools, as Options.Maintenance does.
func (db *DB) SetMaintenance(on bool) { db.maintenance = on }
