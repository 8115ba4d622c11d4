"""What serving with Stillhouse is compared with: the same model behind the servers people use today."""
