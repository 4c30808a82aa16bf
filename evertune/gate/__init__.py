"""May a challenger take the champion's place?"""
