"""The static report: records to pages."""
