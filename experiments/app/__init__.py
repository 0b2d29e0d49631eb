"""The application in the browser: scenarios with sliders, run live, two side by side. Command `abm app`."""
