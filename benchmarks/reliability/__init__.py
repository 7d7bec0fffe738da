"""What mygpt promises about damage, hostile files and failing disks, each tried by a command that counts."""
