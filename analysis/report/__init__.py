"""Reports: one HTML file that tells what a run, several runs of one scenario, or a sweep came to.

A report is made of sections (`analysis.report.page`). Each is a function that says what it has to say, or raises `Lacking` where the data do not
suffice; the report then says so in one line. There is no script in it and nothing is fetched from anywhere.
"""
