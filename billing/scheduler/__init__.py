"""Does to subscriptions what falls due, for all who live by the world's clock."""
