"""The engines, each behind the protocol of `backend`. An engine is imported when it is asked for."""
