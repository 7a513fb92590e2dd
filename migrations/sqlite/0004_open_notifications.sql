-- Whose notification it is, so that each notifier's open ones are read by themselves, however
-- many another has.
ALTER TABLE notifications ADD COLUMN notifier TEXT NOT NULL DEFAULT '';
UPDATE notifications SET notifier = coalesce(json_extract(notification, '$.what.notifier'), '');
CREATE INDEX notifications_open ON notifications (notifier, number)
    WHERE state IN ('pending', 'sending');
