"""The images, the compose file and what starts flow runs in containers, on a real container engine."""
