"""OneBot v11: a QQ account that a client such as NapCat runs, and hands to us."""
