"""The common part of the APIs: the parameters of a reply, their fields in a request, and the job that generates it."""
