"""The web page: its chat, its kiosk, its static files."""
