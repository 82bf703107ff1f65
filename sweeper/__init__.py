"""The service: it decides, schedules and remembers a sweep; the fine-tuning itself is `trainables`."""
