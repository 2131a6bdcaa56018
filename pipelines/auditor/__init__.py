"""The job that audits once a day, whether or not anybody fixes a cut."""
