"""A study: split, choose the rate, pretrain every method over seeds, evaluate, verdict, page."""
