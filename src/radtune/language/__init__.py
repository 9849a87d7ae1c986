"""What several stages know of the language of reports: its words, its terms, how near two texts are in meaning."""
