"""Customers' wallets, and what orders take from them and give back."""
